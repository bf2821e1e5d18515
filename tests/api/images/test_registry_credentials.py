"""Pulls and pushes by those whom a registry knows, and by others: passwords, tokens of a service, identity tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api.containers.conftest import RawApi
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.engine import EngineUnderTest
from support.fault_proxy import FaultProxy
from support.oci import put, unlike_others
from support.token_service import IDENTITY, SERVICE, Asked, TokenService, Wrong
from support.transfers import Transfers, auth_header

OWN = auth_header(USER, PASSWORD)
WRONG = auth_header(USER, "wr0ng-pass")
DENIED = (
    "pull access denied for {name}, repository does not exist or may require 'docker login':"
    " denied: requested access to the resource is denied"
)


@pytest.fixture(name="service", scope="module")
def _service() -> Iterator[TokenService]:
    with TokenService(public=lambda name: name.startswith("public/")) as service:
        yield service


@pytest.fixture(name="guarded", scope="module")
def _guarded(service: TokenService) -> Iterator[DockerRegistry]:
    """A registry that wants tokens."""
    with DockerRegistry(token=service.settings) as registry:
        names = ("public/image", "private/image", "public/amid")
        registry.bearer = service.token(USER, tuple(f"repository:{name}:pull,push" for name in names))
        for name in ("public/image", "private/image"):
            put(registry, name, "1", unlike_others(name, layers=1))
        yield registry


@pytest.fixture(autouse=True)
def _nothing_asked_yet(service: TokenService) -> Iterator[None]:
    service.asked.clear()
    yield
    service.wrong.clear()


def _scopes(asked: list[Asked]) -> list[tuple[str, ...]]:
    return [request.scopes for request in asked]


def test_everybody_pulls_what_is_public_by_a_token(transfers: Transfers, guarded: DockerRegistry, service: TokenService) -> None:
    assert not transfers.pull(f"{guarded.host}/public/image:1").error
    assert _scopes(service.asked) == [("repository:public/image:pull",)]
    assert service.asked[0].user == ""


def test_nobody_is_told_whether_what_is_private_exists(transfers: Transfers, guarded: DockerRegistry) -> None:
    for name in ("private/image", "private/nothing"):
        pulled = transfers.pull(f"{guarded.host}/{name}:1")
        assert (pulled.status, pulled.error) == (404, DENIED.format(name=f"{guarded.host}/{name}"))


def test_a_password_gets_a_token(transfers: Transfers, guarded: DockerRegistry, service: TokenService) -> None:
    assert not transfers.pull(f"{guarded.host}/private/image:1", auth=OWN).error
    (asked,) = service.asked
    assert (asked.method, asked.user, asked.scopes) == ("GET", USER, ("repository:private/image:pull",))
    assert asked.query["account"] == [USER]


def test_an_identity_token_gets_a_token(transfers: Transfers, guarded: DockerRegistry, service: TokenService) -> None:
    auth = auth_header("<token>", "", identitytoken=IDENTITY)
    assert not transfers.pull(f"{guarded.host}/private/image:1", auth=auth).error
    (asked,) = service.asked
    assert (asked.method, asked.scopes) == ("POST", ("repository:private/image:pull",))
    assert asked.form["grant_type"] == ["refresh_token"]
    assert asked.form["client_id"] == ["docker"]


def test_a_token_of_the_clients_own_is_shown_as_it_is(
    transfers: Transfers, guarded: DockerRegistry, service: TokenService
) -> None:
    token = service.token(USER, ("repository:private/image:pull",))
    assert not transfers.pull(f"{guarded.host}/private/image:1", auth=auth_header(registrytoken=token)).error
    assert service.asked == []
    refused = transfers.pull(f"{guarded.host}/private/image:1", auth=auth_header(registrytoken="none"))
    assert (refused.status, refused.error) == (401, "unauthorized: authentication required")


@pytest.mark.parametrize("auth", [WRONG, auth_header("", "", identitytoken="none")], ids=["password", "identity"])
def test_wrong_credentials_are_refused_even_where_nobody_needs_any(
    transfers: Transfers, guarded: DockerRegistry, auth: str
) -> None:
    pulled = transfers.pull(f"{guarded.host}/public/image:1", auth=auth)
    where = f"http://{guarded.host}/v2/public/image/manifests/1"
    assert (pulled.status, pulled.error) == (401, f'Head "{where}": unauthorized: incorrect username or password')


@pytest.mark.parametrize(
    ("wrong", "status", "told"),
    [
        (Wrong(200, b"<html>"), 500, "unable to decode token response: invalid character '<' looking for beginning of value"),
        (Wrong(200, b"{}"), 500, "authorization server did not include a token in the response"),
        (Wrong(429, b'{"details": "slow down"}'), 429, "toomanyrequests: slow down"),
        (Wrong(403, b'{"errors": [{"code": "DENIED", "message": "no way"}]}'), 403, "denied: no way"),
        (Wrong(200, b'{"token": "a\\r\\nX-Evil: 1"}'), 500, ""),
        (Wrong(200, b'{"token": ["a"]}'), 500, ""),
        (Wrong(200, b"[]"), 500, "unable to decode token response: "),
        (Wrong(302, b"", {"Location": "file:///etc/passwd"}), 500, ""),
    ],
    ids=["html", "empty", "limit", "denied", "newline", "list-token", "list", "file"],
)
def test_what_a_token_service_says_instead_of_a_token_is_told(
    transfers: Transfers, guarded: DockerRegistry, service: TokenService, wrong: Wrong, status: int, told: str
) -> None:
    """As somebody new each time, since tokens are kept."""
    service.wrong += [wrong] * 10
    pulled = transfers.pull(f"{guarded.host}/public/image:1", auth=auth_header(f"somebody-{len(wrong.body)}-{wrong.status}", "x"))
    assert pulled.status == status
    assert pulled.error.startswith(f'Head "http://{guarded.host}/v2/public/image/manifests/1": {told}')
    assert "root:" not in pulled.error


@pytest.mark.kitepy  # dockerd gives up
def test_a_token_that_is_refused_amid_a_pull_is_got_anew(
    transfers: Transfers, guarded: DockerRegistry, service: TokenService
) -> None:
    put(guarded, "public/amid", "1", unlike_others("public/amid", layers=1))
    challenge = f'Bearer realm="{service.realm}",service="{SERVICE}",error="invalid_token"'
    with FaultProxy(guarded.port) as proxy:
        proxy.add("/blobs/", status=401, headers={"WWW-Authenticate": challenge})
        assert not transfers.pull(f"{proxy.host}/public/amid:1", auth=OWN).error
    assert [request.user for request in service.asked] == [USER, USER]


def test_a_registry_with_passwords_wants_one(transfers: Transfers) -> None:
    with DockerRegistry(passwords=True) as registry:
        image = unlike_others("passwords", layers=1)
        put(registry, "a/b", "1", image)
        name = f"{registry.host}/a/b:1"
        none = transfers.pull(name)
        where = f"http://{registry.host}/v2/a/b/manifests/1"
        assert (none.status, none.error) == (500, f'Head "{where}": no basic auth credentials')
        wrong = transfers.pull(name, auth=WRONG)
        assert (wrong.status, wrong.error) == (401, "unauthorized: authentication required")
        assert transfers.pull(name, auth=OWN).summary == f"Status: Downloaded newer image for {name}"
        refused = transfers.push(f"{registry.host}/a/b", tag="1", auth=WRONG)
        assert "unauthorized: authentication required" in refused.error
        assert not transfers.push(f"{registry.host}/a/b", tag="1", auth=OWN).error


def test_a_push_asks_for_more_than_a_pull(
    transfers: Transfers, guarded: DockerRegistry, service: TokenService, api: RawApi
) -> None:
    name = f"{guarded.host}/public/image"
    assert not transfers.pull(f"{name}:1").error
    service.asked.clear()
    nobody = transfers.push(name, tag="1")
    assert "denied: requested access to the resource is denied" in nobody.error, nobody
    assert set(service.asked[0].scopes[0].split(":")[2].split(",")) == {"pull", "push"}
    assert api("POST", f"/images/{name}:1/tag?repo={guarded.host}/private/image&tag=2").status == 201
    assert not transfers.push(f"{guarded.host}/private/image", tag="2", auth=OWN).error
    assert guarded.tags("private/image") == ["1", "2"]


@pytest.mark.kitepy
def test_no_secret_gets_into_the_log_or_an_answer(transfers: Transfers, guarded: DockerRegistry, engine: EngineUnderTest) -> None:
    secrets = (PASSWORD, "wr0ng-pass", IDENTITY, "tok-in-a-registrytoken")
    answers = []
    for auth in (OWN, WRONG, auth_header("", "", identitytoken=IDENTITY), auth_header(registrytoken="tok-in-a-registrytoken")):
        answers.append(str(transfers.pull(f"{guarded.host}/private/image:1", auth=auth)))
        answers.append(str(transfers.pull(f"{guarded.host}/private/none:1", auth=auth)))
        answers.append(str(transfers.push(f"{guarded.host}/private/image", tag="1", auth=auth)))
    said = engine.log.read_text(errors="replace") + "".join(answers)
    assert not [secret for secret in secrets if secret in said]
    assert "Bearer ey" not in said

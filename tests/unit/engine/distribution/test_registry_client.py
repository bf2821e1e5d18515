"""Logging in to registries: who gets to see a password, and who must not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.registry import BASIC, IDENTITY, PASSWORD, TOKEN, USER, RegistryDouble, make_certificate

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import InsecureRegistries
from kitepy.engine.distribution.failures import Unreachable
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.model.errors import EngineError, SystemFailure, Unauthorized

GOOD = Credentials(USER, PASSWORD)
WRONG = Credentials(USER, "wr0ng")


class _OnlySecure(InsecureRegistries):
    """Takes this machine for any other, so that TLS is checked."""

    def names(self, _: str) -> bool:
        return False

    def contains(self, _: object) -> bool:
        return False


LogIn = Callable[..., str]


@pytest.fixture(name="log_in")
def _log_in() -> LogIn:
    def log_in(host: str, credentials: Credentials = GOOD, insecure: InsecureRegistries | None = None, **options: object) -> str:
        client = Registries(user_agent="test", insecure=insecure or InsecureRegistries(), **options)  # type: ignore[arg-type]
        return asyncio.run(client.log_in(host, credentials))

    return log_in


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


def _trusting(tmp_path: Path, host: str, authority: Path) -> Path:
    directory = tmp_path / "certs.d" / host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.read_bytes())
    return tmp_path / "certs.d"


@pytest.mark.parametrize("mode", ["basic", "token"])
def test_over_tls_with_an_authority_of_its_own(log_in: LogIn, files: tuple[Path, Path], tmp_path: Path, mode: str) -> None:
    with RegistryDouble(mode, files[1]) as registry:
        certificates = _trusting(tmp_path, registry.host, files[0])
        assert log_in(registry.host, insecure=_OnlySecure(), certificates=[certificates]) == (IDENTITY if mode == "token" else "")
        assert registry.seen[0].authorization == ""


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_said(
    log_in: LogIn, files: tuple[Path, Path]
) -> None:
    with RegistryDouble("basic", files[1]) as registry:
        with pytest.raises(Unreachable, match=r"tls|certificate"):
            log_in(registry.host, insecure=_OnlySecure())
        assert registry.seen == []


def test_a_registry_of_this_machine_needs_no_valid_certificate_and_may_speak_plainly(
    log_in: LogIn, files: tuple[Path, Path]
) -> None:
    for certificate in (files[1], None):
        with RegistryDouble("basic", certificate) as registry:
            assert log_in(registry.host) == ""


def test_a_registry_elsewhere_is_never_spoken_to_plainly(log_in: LogIn) -> None:
    with RegistryDouble("open") as registry:
        with pytest.raises(Unreachable):
            log_in(registry.host, insecure=_OnlySecure())
        assert registry.seen == []


@pytest.mark.parametrize("mode", ["basic", "token"])
def test_wrong_credentials_are_refused(log_in: LogIn, mode: str) -> None:
    with RegistryDouble(mode) as registry:
        kind, words = (Unauthorized, "incorrect username") if mode == "token" else (SystemFailure, "401 Unauthorized")
        with pytest.raises(kind, match=words) as refused:
            log_in(registry.host, WRONG)
        assert "wr0ng" not in str(refused.value)
        with pytest.raises(EngineError):
            log_in(registry.host, Credentials())


def test_a_token_service_is_asked_as_its_specification_says(log_in: LogIn) -> None:
    with RegistryDouble("token") as registry:
        assert log_in(registry.host) == IDENTITY
        ask, token, again = [request for request in registry.seen if request.path != "/"][-3:]
        assert (ask.path, token.path, again.path) == ("/v2/", "/token", "/v2/")
        assert token.query == {"service": ["double"], "account": [USER], "client_id": ["docker"], "offline_token": ["true"]}
        assert (token.authorization, again.authorization) == (BASIC, f"Bearer {TOKEN}")


def test_an_identity_token_is_used_in_place_of_a_password(log_in: LogIn) -> None:
    with RegistryDouble("token") as registry:
        assert log_in(registry.host, Credentials(identity_token=IDENTITY)) == IDENTITY
        token = registry.seen[-2]
        assert (token.method, token.authorization) == ("POST", "")
        assert token.form["grant_type"] == ["refresh_token"]
        assert IDENTITY not in str(token.query)


@pytest.mark.parametrize("token", ["", "two\nlines", "not-the-one", "ünicode"])
def test_a_token_that_is_none_or_that_the_registry_does_not_take_logs_nobody_in(log_in: LogIn, token: str) -> None:
    with RegistryDouble("token", token=token) as registry, pytest.raises(EngineError):
        log_in(registry.host)


def test_a_password_does_not_go_from_tls_to_a_token_service_without(
    log_in: LogIn, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with RegistryDouble("token") as thief, RegistryDouble("token", files[1], realm=f"{thief.url}/token") as registry:
        certificates = _trusting(tmp_path, registry.host, files[0])
        with pytest.raises(Unreachable, match="without TLS"):
            log_in(registry.host, insecure=_OnlySecure(), certificates=[certificates])
        assert thief.seen == []


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "gopher://x/", "http://user:pass@localhost/token"])
def test_a_realm_that_is_no_address_of_a_service_is_refused(log_in: LogIn, realm: str) -> None:
    with RegistryDouble("token", realm=realm) as registry, pytest.raises(Unreachable, match="no usable token service"):
        log_in(registry.host)


@pytest.mark.parametrize("mode", ["basic", "token"])
def test_a_redirect_to_another_host_takes_no_password_along(log_in: LogIn, mode: str) -> None:
    with RegistryDouble("open") as thief:
        path = "/v2/" if mode == "basic" else "/token"
        with RegistryDouble(mode, redirects={path: f"{thief.url}{path}"}) as registry:
            with contextlib.suppress(EngineError):
                log_in(registry.host)
        assert thief.seen
        assert {request.authorization for request in thief.seen} == {""}


def test_a_redirect_from_tls_to_none_is_not_followed(log_in: LogIn, files: tuple[Path, Path], tmp_path: Path) -> None:
    with RegistryDouble("open") as thief, RegistryDouble("basic", files[1], redirects={"/v2/": f"{thief.url}/v2/"}) as registry:
        certificates = _trusting(tmp_path, registry.host, files[0])
        with pytest.raises(Unreachable, match="redirects from TLS"):
            log_in(registry.host, insecure=_OnlySecure(), certificates=[certificates])
        assert thief.seen == []


def test_redirects_in_a_circle_come_to_an_end(log_in: LogIn) -> None:
    with RegistryDouble("open", redirects={"/v2/": "/v2/"}) as registry, pytest.raises(Unreachable, match="redirects"):
        log_in(registry.host)


def test_nobody_there_is_said_with_the_address(log_in: LogIn) -> None:
    with RegistryDouble("open") as registry:
        host = registry.host
    with pytest.raises(Unreachable, match=rf"http://{host}/v2/.*refused"):
        log_in(host)


def test_secrets_do_not_show() -> None:
    assert "s3cret" not in repr(GOOD)
    assert IDENTITY not in repr(Credentials(identity_token=IDENTITY))

"""``docker login``: the engine asks the registry whether it knows the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api.containers.conftest import RawApi
from support.contract import ApiContract
from support.engine import EngineUnderTest
from support.registry import IDENTITY, PASSWORD, USER, RegistryDouble, make_certificate


@pytest.fixture(name="api")
def _api(engine: EngineUnderTest) -> RawApi:
    return RawApi(engine.socket)


def _body(registry: RegistryDouble, password: str = PASSWORD, **more: str) -> dict[str, str]:
    return {"username": USER, "password": password, "serveraddress": registry.host, **more}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("mode", ["open", "basic", "token"])
def test_good_credentials_log_in(api: RawApi, contract: ApiContract, tmp_path: Path, mode: str, tls: bool) -> None:
    certificate = make_certificate(tmp_path)[1] if tls else None
    with RegistryDouble(mode, certificate) as registry:
        answer = api("POST", "/auth", _body(registry))
        assert answer.status == 200, answer.body
        assert answer.json == {"IdentityToken": IDENTITY if mode == "token" else "", "Status": "Login Succeeded"}
        contract.check("POST", "/auth", 200, answer.json)


def test_an_address_may_have_a_scheme_and_a_path(api: RawApi) -> None:
    with RegistryDouble("basic") as registry:
        body = {"username": USER, "password": PASSWORD, "serveraddress": f"http://{registry.host}/v1/"}
        assert api("POST", "/auth", body).status == 200


def test_an_identity_token_logs_in(api: RawApi) -> None:
    with RegistryDouble("token") as registry:
        body = {"username": "", "password": "", "identitytoken": IDENTITY, "serveraddress": registry.host}
        assert api("POST", "/auth", body).json["Status"] == "Login Succeeded"


def test_a_token_service_refuses_wrong_credentials(api: RawApi, contract: ApiContract) -> None:
    with RegistryDouble("token") as registry:
        answer = api("POST", "/auth", _body(registry, "wr0ng"))
        assert answer.status == 401
        contract.check("POST", "/auth", 401, answer.json)
        assert "unauthorized" in answer.message
        assert "wr0ng" not in answer.message


def test_a_registry_with_passwords_refuses_wrong_and_missing_ones(api: RawApi) -> None:
    with RegistryDouble("basic") as registry:
        wrong, missing = api("POST", "/auth", _body(registry, "wr0ng")), api("POST", "/auth", {"serveraddress": registry.host})
        assert (wrong.status, missing.status) == (500, 500)
        assert wrong.message == f"login attempt to {registry.url}/v2/ failed with status: 401 Unauthorized"
        assert missing.message == f'Get "{registry.url}/v2/": no basic auth credentials'


@pytest.mark.parametrize("address", ["%%%", "a b"])
def test_an_address_that_is_none_is_refused(api: RawApi, address: str) -> None:
    answer = api("POST", "/auth", {"username": USER, "password": PASSWORD, "serveraddress": address})
    assert answer.status == 400
    assert "unable to parse server address" in answer.message


def test_a_registry_that_is_not_there_is_named(api: RawApi) -> None:
    with RegistryDouble("open") as registry:
        body = _body(registry)
    answer = api("POST", "/auth", body)
    assert answer.status == 500
    assert body["serveraddress"] in answer.message
    assert "connection refused" in answer.message
    assert PASSWORD not in answer.message


@pytest.mark.kitepy
def test_no_secret_gets_into_the_log(api: RawApi, engine: EngineUnderTest) -> None:
    with RegistryDouble("token") as registry:
        bodies: list[Any] = [_body(registry), _body(registry, "wr0ng"), _body(registry, identitytoken=IDENTITY)]
        bodies.append({**_body(registry), "serveraddress": "localhost:1"})
        bodies.append({**_body(registry), "serveraddress": f"https://u:{PASSWORD}@localhost/"})
        bodies.append({"username": USER, "password": [PASSWORD]})
        for body in bodies:
            answer = api("POST", "/auth", body)
            assert PASSWORD.encode() not in answer.body
    log = engine.log.read_text(errors="replace")
    for secret in (PASSWORD, "wr0ng", IDENTITY):
        assert secret not in log

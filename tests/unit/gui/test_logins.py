"""The app's view of the user's logins: Docker's configuration is honoured, and what can't be kept or read is told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kitepy.client.credentials import CredentialStore
from kitepy.client.secret_service import KeyringError, SecretService
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.models.registry import Keeper, NewLogin


class NoKeyring(SecretService):
    def check(self) -> None:
        raise KeyringError("no Secret Service answers on this session bus")

    def get(self, service: str, username: str) -> str | None:
        raise KeyringError(f"{service} of {username} can't be read")


def logins(home: Path, config: Mapping[str, object] | None = None) -> Logins:
    (home / "docker").mkdir(exist_ok=True)
    if config is not None:
        (home / "docker" / "config.json").write_text(json.dumps(config))
    environment = {"HOME": str(home), "DOCKER_CONFIG": str(home / "docker"), "PATH": str(home)}
    return Logins(CredentialStore(environment, NoKeyring()))


def decoded(header: str) -> dict[str, str]:
    found = json.loads(base64.urlsafe_b64decode(header))
    assert isinstance(found, dict)
    return found


def test_docker_s_logins_are_found_and_shown_under_the_names_people_write(tmp_path: Path) -> None:
    secret = base64.b64encode(b"ada:right").decode()
    config = {"auths": {"https://index.docker.io/v1/": {"auth": secret}, "localhost:5000": {"auth": secret}}}

    async def story() -> None:
        mine = logins(tmp_path, config)
        read = await mine.read()
        assert [(login.host, login.user, login.keeper) for login in read.logins] == [
            ("docker.io", "ada", Keeper.DOCKER),
            ("localhost:5000", "ada", Keeper.DOCKER),
        ]
        sent = decoded(await mine.authorization("docker.io"))
        assert (sent["username"], sent["password"]) == ("ada", "right")
        assert await mine.authorization("ghcr.io") == ""

    asyncio.run(story())


def test_without_a_keyring_a_login_lasts_for_the_session_and_the_reason_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        mine = logins(tmp_path, {})
        keepers = {choice.keeper: choice.why_not for choice in (await mine.read()).keepers}
        assert keepers[Keeper.KEYRING] == "no Secret Service answers on this session bus"
        assert keepers[Keeper.SESSION] == ""
        await mine.keep(NewLogin("ghcr.io", "ada", "s3cret", Keeper.SESSION), "")
        assert decoded(await mine.authorization("ghcr.io")).get("password") == "s3cret"
        with pytest.raises(OperationFailed, match="ghcr"):
            await mine.keep(NewLogin("ghcr.io", "ada", "other", Keeper.KEYRING), "")
        assert "s3cret" not in repr(NewLogin("ghcr.io", "ada", "s3cret", Keeper.SESSION))
        await mine.forget("ghcr.io")
        assert await mine.authorization("ghcr.io") == ""
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]

    asyncio.run(story())


def test_an_identity_token_takes_the_password_s_place(tmp_path: Path) -> None:
    async def story() -> None:
        mine = logins(tmp_path)
        await mine.keep(NewLogin("ghcr.io", "ada", "s3cret", Keeper.SESSION), "token")
        sent = decoded(await mine.authorization("ghcr.io"))
        assert sent["identitytoken"] == "token"
        assert "password" not in sent

    asyncio.run(story())


def test_a_helper_that_is_gone_is_named_and_stops_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        mine = logins(tmp_path, {"credHelpers": {"ghcr.io": "gone"}})
        assert await mine.authorization("ghcr.io") == ""
        notes = (await mine.read()).notes
        assert len(notes) == 1
        assert notes[0] == "docker-credential-gone is not installed."

    asyncio.run(story())

"""Who the user is to which registry, for the app: logins that are kept for this session alone."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from kitepy.gui.gateway.registry_port import LoginsRead
from kitepy.gui.models.reference import DOCKER_HUB
from kitepy.gui.models.registry import Keeper, KeeperChoice, Login, NewLogin

_HUB_SERVER = "https://index.docker.io/v1/"


@dataclass
class Logins:
    _secrets: dict[str, tuple[str, str, str]] = field(default_factory=dict, repr=False)

    async def authorization(self, host: str) -> str:
        """The value of ``X-Registry-Auth``; empty for nobody."""
        user, password, token = self._secrets.get(host, ("", "", ""))
        if not user:
            return ""
        known = {"identitytoken": token} if token else {"password": password}
        document = {"username": user, "serveraddress": server_address(host), **known}
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()

    async def read(self) -> LoginsRead:
        logins = tuple(Login(host, user, Keeper.SESSION) for host, (user, _, _) in self._secrets.items())
        return LoginsRead(logins, (KeeperChoice(Keeper.SESSION, note="Forgotten when Kitepy ends."),))

    async def keep(self, login: NewLogin, identity_token: str) -> None:
        self._secrets[login.host] = (login.user, "" if identity_token else login.password, identity_token)

    async def forget(self, host: str) -> None:
        self._secrets.pop(host, None)


def server_address(host: str) -> str:
    """What the engine knows Docker Hub's login by; others by their host."""
    return _HUB_SERVER if host == DOCKER_HUB else host

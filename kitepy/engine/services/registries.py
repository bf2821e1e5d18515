"""The user's dealings with image registries; so far whether they know the user. Satisfies ``ports.RegistryService``."""

from __future__ import annotations

from typing import Any

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import registry_host
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.model.registry import AuthConfigBody


class RegistryAccess:
    """Asks registries; keeps no credentials."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def log_in(self, body: AuthConfigBody) -> dict[str, Any]:
        """Check credentials; gives the document of ``POST /auth``."""
        host = registry_host(body.serveraddress)
        credentials = Credentials(body.username, body.password, body.identitytoken)
        token = await self._registries.log_in(host, credentials)
        return {"IdentityToken": token, "Status": "Login Succeeded"}

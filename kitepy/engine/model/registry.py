"""What clients send about registries: the credentials of a user."""

from __future__ import annotations

from msgspec import Struct


class AuthConfigBody(Struct, frozen=True, kw_only=True):
    """AuthConfig of the Engine API: the body of ``POST /auth``, and what ``X-Registry-Auth`` holds. Never to be logged."""

    username: str = ""
    password: str = ""
    email: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return f"AuthConfigBody(username={self.username!r}, serveraddress={self.serveraddress!r})"

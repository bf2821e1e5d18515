"""How a user is known to a registry."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

from kitepy.engine.model.registry import AuthConfigBody


@dataclass(frozen=True)
class Credentials:
    """What a user shows to a registry; ``repr`` shows no secret. Without arguments: nobody."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Got from a token service before, in place of a password."""
    registry_token: str = field(default="", repr=False)
    """A bearer token for the registry itself, shown as it is."""

    @classmethod
    def of(cls, body: AuthConfigBody) -> Credentials:
        """What a client sent."""
        return cls(body.username, body.password, body.identitytoken, body.registrytoken)

    @property
    def basic(self) -> str:
        """The value of a Basic ``Authorization``; empty without a user's name or password."""
        if not self.username or not self.password:
            return ""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody else may read."""
        basic = self.basic.removeprefix("Basic ")
        return tuple(secret for secret in (basic, self.password, self.identity_token, self.registry_token) if secret)


ANONYMOUS = Credentials()

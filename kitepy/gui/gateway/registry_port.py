"""What the app asks about registries, as a part of the gateway's Protocol: searching, tags, previews, pulls and logins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from kitepy.gui.models.discover import Hit, PullPreview, TagsPage
from kitepy.gui.models.reference import Reference
from kitepy.gui.models.registry import EngineRegistries, KeeperChoice, Login, NewLogin
from kitepy.gui.models.transfer import TransferMessage


@dataclass(frozen=True)
class LoginsRead:
    """`notes` say which sources of logins couldn't be read."""

    logins: tuple[Login, ...] = ()
    keepers: tuple[KeeperChoice, ...] = ()
    notes: tuple[str, ...] = ()


class RegistryGateway(Protocol):
    """Calls raise OperationFailed with the engine's words; `models.trouble` makes the user's of them."""

    async def search(self, registry: str, words: str, limit: int) -> tuple[Hit, ...]:
        """Without words: what the registry has, as far as it lists that."""
        ...

    async def tags(self, repository: Reference, *, after: str, words: str, limit: int) -> TagsPage:
        """A page of the tags whose names contain `words`, beginning behind `after`."""
        ...

    async def preview_pull(self, reference: Reference, platform: str) -> PullPreview:
        """What a pull would bring, and what of it is here; `platform` is empty for this machine's."""
        ...

    def pull(self, reference: str, platform: str) -> AsyncIterator[TransferMessage]:
        """Cancelling it closes the connection: the engine keeps what has arrived, and the next pull goes on from there."""
        ...

    async def logins(self) -> LoginsRead: ...

    async def engine_registries(self) -> EngineRegistries: ...

    async def check_registry(self, host: str) -> None:
        """Whether it answers, and accepts the login that there is."""
        ...

    async def log_in(self, login: NewLogin) -> None:
        """Tries it at the registry first and keeps it when it was accepted."""
        ...

    async def log_out(self, host: str) -> None:
        """Forgets the login wherever it is kept."""
        ...

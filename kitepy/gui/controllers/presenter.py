"""What controllers ask of the window: questions and messages. The window fulfils it; tests may too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kitepy.gui.models.build import BuildRequest, BuildReview
from kitepy.gui.models.container import Container
from kitepy.gui.models.image import Image
from kitepy.gui.models.image_list import PruneCandidate
from kitepy.gui.models.network import Network, NetworkPlan
from kitepy.gui.models.registry import KeeperChoice, NewLogin, Registry
from kitepy.gui.models.trouble import Trouble
from kitepy.gui.models.volume import RestorePlan, VolumeRow

TryLogin = Callable[[NewLogin, Callable[[Trouble | None], None]], Callable[[], None]]
"""Tries a login while its sheet is open and says once what is in the way, or None when it is done; gives what stops it."""


class Presenter(Protocol):
    def tell(self, text: str) -> None: ...

    def offer(self, text: str, action: str, go: Callable[[], None]) -> None:
        """Tells it with one thing that can be done about it, for a while."""
        ...

    def warn(self, text: str) -> None: ...

    def review(self, review: BuildReview, go: Callable[[BuildRequest], None], done: Callable[[], None]) -> None:
        """Shows the sheet; `done` is called either way, after `go` when it was accepted."""
        ...

    def confirm(self, title: str, text: str, action: str, go: Callable[[], None]) -> None: ...

    def choose(self, title: str, text: str, choices: Sequence[tuple[str, Callable[[], None]]]) -> None:
        """A question with several answers beside "no"; none of them loses anything without saying so."""
        ...

    def ask_name(self, name: str, taken: set[str], go: Callable[[str], None]) -> None: ...

    def ask_save_path(self, title: str, suggestion: str, go: Callable[[Path], None]) -> None: ...

    def ask_archive(self, title: str, go: Callable[[Path], None]) -> None:
        """A file to read."""
        ...

    def ask_new_volume(self, taken: set[str], go: Callable[[str, Mapping[str, str]], None]) -> None:
        """A name, which may be empty, and labels."""
        ...

    def ask_prune(self, rows: Sequence[VolumeRow], go: Callable[[Sequence[str]], None]) -> None:
        """`rows` are the unused volumes; gives the names of those that are to go."""
        ...

    def ask_restore(self, source: Path, rows: Sequence[VolumeRow], volume: str, go: Callable[[RestorePlan], None]) -> None:
        """Into which volume: `volume`, or when that is empty a new one."""
        ...

    def ask_tag(self, image: Image, images: Sequence[Image], go: Callable[[str], None]) -> None:
        """A further name for the image."""
        ...

    def ask_push(self, image: Image, user_of: Callable[[str], str], go: Callable[[str, bool], None]) -> None:
        """Under which name, and whether all tags of that repository go; `user_of` tells who is logged in at a registry."""
        ...

    def ask_import(self, source: Path, images: Sequence[Image], go: Callable[[str], None]) -> None:
        """What to call the image that is made of a root file system."""
        ...

    def ask_image_prune(self, candidates: Sequence[PruneCandidate], go: Callable[[Sequence[str]], None]) -> None:
        """`candidates` are the unused images; gives the ids of those that are to go."""
        ...

    def ask_new_network(self, networks: Sequence[Network], go: Callable[[NetworkPlan], None]) -> None: ...

    def ask_connection(self, network: Network, candidates: Sequence[Container], go: Callable[[str, str], None]) -> None:
        """Which container's id, and an address or an empty text."""
        ...

    def ask_new_registry(
        self, taken: set[str], keepers: Sequence[KeeperChoice], add: Callable[[str], None], try_login: TryLogin
    ) -> None:
        """An address, and a login there if wanted: without one `add` is called."""
        ...

    def ask_login(self, registry: Registry, keepers: Sequence[KeeperChoice], try_login: TryLogin) -> None: ...

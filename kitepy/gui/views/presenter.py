"""The window as the controllers see it: questions become sheets, messages become notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kitepy.gui.models.build import BuildRequest, BuildReview
from kitepy.gui.models.container import Container
from kitepy.gui.models.image import Image
from kitepy.gui.models.image_list import PruneCandidate
from kitepy.gui.models.network import Network, NetworkPlan
from kitepy.gui.models.registry import KeeperChoice, Registry
from kitepy.gui.models.volume import RestorePlan, VolumeRow
from kitepy.gui.views.image_sheets import ImagePruneSheet, ImportSheet, PushSheet, TagSheet
from kitepy.gui.views.main_window import MainWindow
from kitepy.gui.views.network_sheets import ConnectSheet, NewNetworkSheet
from kitepy.gui.views.registry_sheets import KnownLoginSheet, NewRegistrySheet, TryLogin
from kitepy.gui.views.volume_sheets import NewVolumeSheet, PruneSheet, RestoreSheet
from kitepy.gui.widgets.sheet import ChoiceSheet


class WindowPresenter:
    def __init__(self, window: MainWindow) -> None:
        self._window = window

    def tell(self, text: str) -> None:
        self._window.notices.tell(text)

    def offer(self, text: str, action: str, go: Callable[[], None]) -> None:
        self._window.notices.offer(text, action, go)

    def warn(self, text: str) -> None:
        self._window.notices.warn(text)

    def review(self, review: BuildReview, go: Callable[[BuildRequest], None], done: Callable[[], None]) -> None:
        self._window.bring_to_front()
        sheet = self._window.ask_review(review)
        sheet.confirmed.connect(go)
        sheet.accepted.connect(done)
        sheet.rejected.connect(done)

    def confirm(self, title: str, text: str, action: str, go: Callable[[], None]) -> None:
        self._window.bring_to_front()
        self._window.ask_to_confirm(title, text, action).accepted.connect(go)

    def choose(self, title: str, text: str, choices: Sequence[tuple[str, Callable[[], None]]]) -> None:
        self._window.bring_to_front()
        sheet = ChoiceSheet(self._window, title, text, [answer for answer, _ in choices])
        sheet.chosen.connect(lambda number: choices[number][1]())
        sheet.ask()

    def ask_name(self, name: str, taken: set[str], go: Callable[[str], None]) -> None:
        self._window.bring_to_front()
        self._window.ask_name(name, taken).renamed.connect(go)

    def ask_save_path(self, title: str, suggestion: str, go: Callable[[Path], None]) -> None:
        self._window.ask_save_path(title, suggestion, lambda path: go(Path(path)))

    def ask_archive(self, title: str, go: Callable[[Path], None]) -> None:
        self._window.ask_archive(title, lambda path: go(Path(path)))

    def ask_new_volume(self, taken: set[str], go: Callable[[str, Mapping[str, str]], None]) -> None:
        sheet = NewVolumeSheet(self._window, taken)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_prune(self, rows: Sequence[VolumeRow], go: Callable[[Sequence[str]], None]) -> None:
        sheet = PruneSheet(self._window, rows)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_restore(self, source: Path, rows: Sequence[VolumeRow], volume: str, go: Callable[[RestorePlan], None]) -> None:
        sheet = RestoreSheet(self._window, source, rows, volume)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_tag(self, image: Image, images: Sequence[Image], go: Callable[[str], None]) -> None:
        sheet = TagSheet(self._window, image, images)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_push(self, image: Image, user_of: Callable[[str], str], go: Callable[[str, bool], None]) -> None:
        sheet = PushSheet(self._window, image, user_of)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_import(self, source: Path, images: Sequence[Image], go: Callable[[str], None]) -> None:
        self._window.bring_to_front()
        sheet = ImportSheet(self._window, source, images)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_image_prune(self, candidates: Sequence[PruneCandidate], go: Callable[[Sequence[str]], None]) -> None:
        sheet = ImagePruneSheet(self._window, candidates, time.time())
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_new_network(self, networks: Sequence[Network], go: Callable[[NetworkPlan], None]) -> None:
        sheet = NewNetworkSheet(self._window, networks)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_connection(self, network: Network, candidates: Sequence[Container], go: Callable[[str, str], None]) -> None:
        sheet = ConnectSheet(self._window, network, candidates)
        sheet.confirmed.connect(go)
        sheet.ask()

    def ask_new_registry(
        self, taken: set[str], keepers: Sequence[KeeperChoice], add: Callable[[str], None], try_login: TryLogin
    ) -> None:
        sheet = NewRegistrySheet(self._window, taken, keepers, try_login, self._window.copy)
        sheet.added.connect(add)
        sheet.ask()

    def ask_login(self, registry: Registry, keepers: Sequence[KeeperChoice], try_login: TryLogin) -> None:
        KnownLoginSheet(self._window, registry, keepers, try_login, self._window.copy).ask()

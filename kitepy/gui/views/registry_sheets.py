"""Questions about registries: a new one's address, and a login that is tried while the sheet is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QWidget

from kitepy.gui.models.reference import DOCKER_HUB, registry_host
from kitepy.gui.models.registry import Keeper, KeeperChoice, NewLogin, Registry, trouble_with_host
from kitepy.gui.models.trouble import Remedy, Trouble
from kitepy.gui.widgets.buttons import Choice
from kitepy.gui.widgets.form import FormSheet
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.trouble import TroubleCard

TryLogin = Callable[[NewLogin, Callable[[Trouble | None], None]], Callable[[], None]]


class LoginSheet(FormSheet):
    """Closes when the registry has accepted the login; what it says otherwise stands in the sheet."""

    def __init__(
        self,
        parent: QWidget,
        name: str,
        title: str,
        keepers: Sequence[KeeperChoice],
        try_login: TryLogin,
        copy: Callable[[str, str], None],
    ) -> None:
        super().__init__(parent, name, title, width=540)
        self._try_login = try_login
        self._stop: Callable[[], None] | None = None
        self._open = True
        self._failure = TroubleCard(f"{name}-trouble", lambda _remedy: self._send(), copy)
        self.user = QLineEdit()
        self.password = QLineEdit()
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self.keeper = Choice()
        self._keeper_note = label("", "small", wrap=True)
        self._keepers = {choice.keeper: choice for choice in keepers}
        for choice in keepers:
            if not choice.why_not:
                self.keeper.addItem(choice.title, choice.keeper)
        if not self.keeper.count():
            self.keeper.addItem(KeeperChoice(Keeper.SESSION).title, Keeper.SESSION)
        self.keeper.currentIndexChanged.connect(self._tell_about_keeper)
        self.rejected.connect(self._give_up)

    def host(self) -> str:
        raise NotImplementedError

    def add_login_fields(self) -> None:
        self.add("User name", self.user, f"{self.objectName()}-user")
        self.add("Password or token", self.password, f"{self.objectName()}-password")
        self.add("Keep it in", self.keeper, f"{self.objectName()}-keeper")
        self.add("", self._keeper_note, f"{self.objectName()}-keeper-note")
        self._fields.pop()
        self._tell_about_keeper()

    def accept(self) -> None:
        if not self.trouble():
            self._send()

    def _send(self) -> None:
        if self._stop is not None or self.trouble():
            return
        self._failure.show_trouble(None)
        self._busy(True)
        keeper: Keeper = self.keeper.currentData()
        login = NewLogin(self.host(), self.user.text().strip(), self.password.text(), keeper)
        self._stop = self._try_login(login, self._settle)

    def _settle(self, trouble: Trouble | None) -> None:
        if not self._open:
            return
        self._stop = None
        if trouble is None:
            self._open = False
            super().accept()
            return
        self._busy(False)
        self._failure.show_trouble(trouble, tuple(Remedy))
        self.password.setFocus()
        self.password.selectAll()

    def _busy(self, busy: bool) -> None:
        for field in (self.user, self.password, self.keeper):
            field.setEnabled(not busy)
        self.go.setEnabled(not busy)
        self.go.relabel("Trying it…" if busy else self.action_text())

    def action_text(self) -> str:
        return "Log in"

    def _give_up(self) -> None:
        """A login that nobody waits for any more isn't kept."""
        self._open = False
        if self._stop is not None:
            self._stop()

    def _tell_about_keeper(self) -> None:
        choice = self._keepers.get(self.keeper.currentData())
        missing = self._keepers.get(Keeper.KEYRING)
        words = [choice.note if choice else ""]
        if missing is not None and missing.why_not:
            words.append(f"The desktop's keyring can't be had: {missing.why_not}")
        text = " ".join(word for word in words if word)
        self._keeper_note.setText(text)
        self._keeper_note.setVisible(bool(text))


class KnownLoginSheet(LoginSheet):
    def __init__(
        self,
        parent: QWidget,
        registry: Registry,
        keepers: Sequence[KeeperChoice],
        try_login: TryLogin,
        copy: Callable[[str, str], None],
    ) -> None:
        super().__init__(parent, "login", f"Log in to {registry.title}", keepers, try_login, copy)
        self._host = registry.host
        if registry.login is not None:
            self.user.setText(registry.login.user)
        self.add_login_fields()
        hint = "Docker Hub takes personal access tokens in place of the password." if registry.host == DOCKER_HUB else ""
        text = label(f"It is tried at once and kept only when it is accepted. {hint}".strip(), "muted", wrap=True)
        self.build("Log in", text, self._failure)

    def ask(self, focus: QWidget | None = None) -> None:
        super().ask(focus or (self.password if self.user.text() else self.user))

    def host(self) -> str:
        return self._host

    def trouble(self) -> str:
        return "" if self.user.text().strip() and self.password.text() else "Both are needed."

    def unfinished(self) -> bool:
        return True


class NewRegistrySheet(LoginSheet):
    added = Signal(str)
    """A host, without a login."""

    def __init__(
        self,
        parent: QWidget,
        taken: set[str],
        keepers: Sequence[KeeperChoice],
        try_login: TryLogin,
        copy: Callable[[str, str], None],
    ) -> None:
        super().__init__(parent, "new-registry", "Add a registry", keepers, try_login, copy)
        self._taken = taken
        self._address = QLineEdit(placeholderText="ghcr.io or localhost:5000")
        self.user.setPlaceholderText("none: without a login")
        self.add("Address", self._address, "new-registry-address")
        self.add_login_fields()
        text = "It is searched from then on. With a user name the login is tried at once and kept only when it is accepted."
        self.build("Add", label(text, "muted", wrap=True), self._failure)

    def host(self) -> str:
        return registry_host(self._address.text())

    def accept(self) -> None:
        if self.trouble():
            return
        if self.user.text().strip():
            self._send()
            return
        host = self.host()
        self.accepted.connect(lambda: self.added.emit(host))
        FormSheet.accept(self)

    def action_text(self) -> str:
        return "Add"

    def trouble(self) -> str:
        if trouble := trouble_with_host(self._address.text(), self._taken):
            return trouble
        return "A user name needs a password." if self.user.text().strip() and not self.password.text() else ""

    def unfinished(self) -> bool:
        return not self._address.text().strip() or bool(self.user.text().strip() and not self.password.text())

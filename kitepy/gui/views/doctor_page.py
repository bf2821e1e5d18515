"""What this machine lacks for containers: each finding with what it means and the exact command, and what can be done now.

Shown at the first start when something is missing, when the engine can't start for it, and from the menu at any time.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from kitepy.gui.models.state import DISCOVER, AppState, EnginePhase
from kitepy.gui.models.system_check import Finding, Fix, Severity, SystemCheck, all_commands, lead, title
from kitepy.gui.theme import monospace_font
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, card, clear_layout, column, frame, line, row, scrolling

_MARKS = {
    Severity.BLOCKS: ("alert", "danger", "Needed"),
    Severity.DEGRADES: ("alert", "warning", "Recommended"),
    Severity.HINT: ("info", "accent", "Optional"),
    Severity.FINE: ("check", "success", "In order"),
}
_TOP = Qt.AlignmentFlag.AlignTop


class DoctorPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("doctor-page")
        self._intents = intents
        self._shown: SystemCheck | None = None

        self._icon = QVBoxLayout()
        self._title = label("", "title", wrap=True)
        self._title.setObjectName("doctor-title")
        self._lead = label("", "muted", wrap=True)
        self._lead.setObjectName("doctor-lead")
        self._findings = column(spacing=12)
        content = QWidget()
        head = row(self._icon, column(self._title, self._lead, spacing=6), spacing=16)
        head.setStretch(1, 1)
        content.setLayout(column(head, 8, self._findings, 0, spacing=12, margins=(40, 32, 40, 24)))
        self._scroll = scrolling(content)

        # The one thing to do next is the button in colour: checking again, until there is an engine to go on with.
        self.again = TextButton("Check again", "primary", "refresh")
        self.again.setObjectName("doctor-again")
        self.again.clicked.connect(intents.check_system)
        self.copy_all = TextButton("Copy all commands", "", "copy")
        self.copy_all.setObjectName("doctor-copy-all")
        self.copy_all.clicked.connect(self._copy_all)
        self.rights = TextButton("Start with administrator rights instead…", "flat")
        self.rights.setObjectName("doctor-rights")
        self.rights.clicked.connect(self._choose_rights)
        self.go_on = TextButton("Continue", "primary")
        self.go_on.setObjectName("doctor-continue")
        self.go_on.clicked.connect(lambda: intents.navigate.emit(DISCOVER))
        bar = row(self.rights, 0, self.copy_all, self.again, self.go_on, spacing=10, margins=(40, 12, 40, 14))
        whole = column(self._scroll, line(), bar, spacing=0)
        whole.setStretch(0, 1)
        self.setLayout(whole)

    def show_state(self, state: AppState) -> None:
        failed = state.engine.phase is EnginePhase.FAILED
        check = state.system
        busy = state.checking_system or state.engine.phase is EnginePhase.STARTING
        self.again.setEnabled(not busy)
        self.again.relabel("Checking…" if busy else "Check again", "refresh")
        self.go_on.setVisible(not failed)
        self.again.set_kind("primary" if failed else "")
        commands = all_commands(check) if check is not None else ""
        self.copy_all.setVisible(failed and commands.count("\n\n") > 0)
        degraded = check is not None and check.worth_a_page
        self.go_on.relabel("Continue anyway" if degraded else "Continue")
        self._show_rights(check)
        if check is None:
            self._title.setText("Looking at this machine…" if busy else "This machine couldn't be checked")
            self._lead.setText("")
        elif check != self._shown:
            self._title.setText(title(check))
            self._lead.setText(lead(check))
            self._fill(check)
        self._shown = check

    def _show_rights(self, check: SystemCheck | None) -> None:
        """Another engine is offered where it helps: administrator rights to whoever is blocked, and the way back."""
        back = check is not None and check.engine_as_root
        forth = check is not None and check.blocked and not check.is_root and not back
        self.rights.setVisible(back or forth)
        self.rights.relabel("Go back to an engine with your own rights" if back else "Start with administrator rights instead…")

    def _choose_rights(self) -> None:
        check = self._shown
        self._intents.choose_rights.emit(not (check is not None and check.engine_as_root))

    def _copy_all(self) -> None:
        if self._shown is not None:
            self._intents.copy_text.emit(all_commands(self._shown), "all commands")

    def _fill(self, check: SystemCheck) -> None:
        clear_layout(self._icon)
        clear_layout(self._findings)
        worst = next((severity for severity in Severity if check.of(severity)), Severity.FINE)
        name, tone, _ = _MARKS[Severity.FINE if worst is Severity.HINT else worst]
        self._icon.addWidget(IconLabel(name, 34, tone), 0, _TOP)
        wanted = (Severity.BLOCKS, Severity.DEGRADES) if check.blocked else (Severity.DEGRADES, Severity.HINT)
        for severity in wanted:
            for finding in check.of(severity):
                self._findings.addWidget(self._card(finding))
        if fine := check.of(Severity.FINE):
            lines = (row(IconLabel("check", 16, "success"), label(each.summary, wrap=True), spacing=10) for each in fine)
            rows = []
            for each in lines:
                each.setStretch(1, 1)
                rows.append(each)
            self._findings.addWidget(card("In order", *rows))

    def _card(self, finding: Finding) -> QFrame:
        icon, tone, word = _MARKS[finding.severity]
        summary = label(finding.summary, "strong", wrap=True, selectable=True)
        summary.setObjectName("doctor-finding")
        summary.setAccessibleName(f"{word}: {finding.summary}")
        mark = IconLabel(icon, 20, tone)
        head = row(mark, column(label(word, "section"), summary, spacing=3), spacing=12)
        head.setStretch(1, 1)
        head.setAlignment(mark, _TOP)
        body = column(spacing=8, margins=(32, 0, 0, 0))
        if finding.meaning:
            body.addWidget(label(finding.meaning, "muted", wrap=True))
        for fix in finding.fixes:
            if fix.about:
                body.addWidget(label(fix.about, "small", wrap=True))
            body.addWidget(self._command(finding, fix))
        return frame("card", column(head, body, spacing=8, margins=(18, 14, 14, 16)))

    def _command(self, finding: Finding, fix: Fix) -> QFrame:
        text = label(fix.command, wrap=True, selectable=True)
        text.setObjectName("doctor-command")
        text.setFont(monospace_font(0.92))
        text.setAccessibleName(f"Command: {fix.command}")
        copy = IconButton("copy", "Copy this command", small=True)
        copy.setObjectName("doctor-copy")
        copy.setAccessibleName(f"Copy the command for: {finding.summary}")
        copy.clicked.connect(lambda: self._intents.copy_text.emit(fix.command, "the command"))
        inner = row(text, spacing=8, margins=(12, 8, 8, 8))
        inner.setStretch(0, 1)
        inner.addWidget(copy, 0, _TOP)
        return frame("command", inner)

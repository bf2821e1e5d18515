"""The Home tab: what the container serves, where to reach it, what it said lately, and the facts about it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from kitepy.gui.models.container import Container, ContainerDetails, Port, Status, distinct_ports, explain_exit, preview_port
from kitepy.gui.models.log import local_time
from kitepy.gui.models.preview import Preview
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.preview_card import PreviewCard
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, card, clear_layout, column, frame, row, scrolling
from kitepy.gui.widgets.log_view import LogView


class ContainerHome(QWidget):
    logs_wanted = Signal()

    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._ports_shown: tuple[Port, ...] | None = None
        self._details: ContainerDetails | None = None
        self.preview = PreviewCard(intents)

        self._stopped_text = label("", wrap=True, selectable=True)
        self._stopped_text.setObjectName("stopped-reason")
        self._stopped = frame(
            "card", row(IconLabel("info", 20, "warning"), self._stopped_text, spacing=12, margins=(18, 12, 18, 12))
        )
        self._stopped_text.setSizePolicy(
            self._stopped_text.sizePolicy().Policy.Expanding, self._stopped_text.sizePolicy().Policy.Preferred
        )

        self.recent_logs = LogView(scale=0.9)
        self.recent_logs.setObjectName("recent-logs")
        self.recent_logs.setAccessibleName("Recent log lines")
        self.recent_logs.setMinimumHeight(190)
        everything = TextButton("Open logs", "flat")
        everything.clicked.connect(self.logs_wanted)
        logs_card = card("Recent log", frame("well", column(self.recent_logs, margins=(1, 1, 1, 1))), corner=everything)

        self._ports = QVBoxLayout()
        self._ports.setSpacing(4)
        ports_holder = QWidget()
        ports_holder.setObjectName("ports-table")
        ports_holder.setLayout(self._ports)
        self._ports.setContentsMargins(0, 0, 0, 0)
        ports_card = card("Ports", ports_holder)

        self._facts = QGridLayout()
        self._facts.setHorizontalSpacing(14)
        self._facts.setVerticalSpacing(2)
        self._facts.setColumnStretch(1, 1)
        facts_card = card("About", self._facts)

        left = column(self.preview, logs_card, spacing=14)
        left.setStretchFactor(logs_card, 1)
        right_side = QWidget()
        right_side.setLayout(column(ports_card, facts_card, 0, spacing=14))
        right_side.setFixedWidth(290)
        body = row(left, right_side, spacing=14)
        body.setStretch(0, 1)
        content = QWidget()
        content.setLayout(column(self._stopped, body, spacing=14, margins=(32, 18, 28, 24)))
        self.setLayout(column(scrolling(content)))

    def show_container(self, container: Container) -> None:
        ports = distinct_ports(container.ports)
        if ports != self._ports_shown:
            self._ports_shown = ports
            self._fill_ports(ports)
        port = preview_port(container.ports) if container.status is Status.RUNNING else None
        self.preview.setVisible(port is not None)
        if port is not None:
            self.preview.show_address(port.url)
        stopped = container.status in (Status.EXITED, Status.DEAD) and container.exit_code is not None
        if stopped:
            memory = bool(self._details and self._details.container.id == container.id and self._details.out_of_memory)
            self._stopped_text.setText(
                f"The container isn't running: it {explain_exit(container.exit_code or 0, out_of_memory=memory)}."
            )
        elif container.status is Status.CREATED:
            self._stopped_text.setText("The container has never been started.")
        self._stopped.setVisible(stopped or container.status is Status.CREATED)

    def show_details(self, details: ContainerDetails) -> None:
        if self._details == details:
            return
        self._details = details
        clear_layout(self._facts)
        container = details.container
        facts = [
            ("Image", container.image, True),
            ("Command", details.command, False),
            ("Address", details.address, True),
            ("Started", _readable_time(details.started_at), False),
            ("Stopped", "" if container.status.alive else _readable_time(details.finished_at), False),
            ("Error", details.error, False),
            *(
                (mount.kind.capitalize(), f"{mount.destination} ← {mount.source or 'anonymous'}", False)
                for mount in details.mounts
            ),
        ]
        for number, (title, text, copyable) in enumerate(fact for fact in facts if fact[1]):
            name = label(title, "muted")
            value = label(text, wrap=True, selectable=True)
            for words in (name, value):
                # As high as the button beside some of them, so that all rows stand on one line.
                words.setContentsMargins(0, 4, 0, 4)
            self._facts.addWidget(name, number, 0, Qt.AlignmentFlag.AlignTop)
            self._facts.addWidget(value, number, 1, Qt.AlignmentFlag.AlignTop)
            if copyable:
                self._facts.addWidget(self._copy_button(text, title.lower()), number, 2, Qt.AlignmentFlag.AlignTop)
        self.show_container(container)

    def show_preview(self, preview: Preview | None) -> None:
        self.preview.show_preview(preview)

    def _fill_ports(self, ports: tuple[Port, ...]) -> None:
        clear_layout(self._ports)
        if not ports:
            self._ports.addWidget(label("This container exposes no ports.", "muted", wrap=True))
        for port in ports:
            name = label(f"{port.container_port}/{port.protocol}", "muted")
            if not port.address:
                self._ports.addLayout(row(name, 0, label("not published", "small")))
                continue
            address = TextButton(port.address, "flat")
            address.setObjectName("port-address")
            address.setAccessibleName(f"Open {port.address}")
            address.setToolTip(f"Open {port.url}" if port.url else port.address)
            address.setEnabled(bool(port.url))
            address.clicked.connect(lambda _checked=False, url=port.url: self._intents.open_url.emit(url))
            self._ports.addLayout(row(name, 0, address, self._copy_button(port.address, "address"), spacing=2))

    def _copy_button(self, text: str, what: str) -> IconButton:
        button = IconButton("copy", f"Copy {what}", small=True)
        button.clicked.connect(lambda: self._intents.copy_text.emit(text, f"the {what}"))
        return button


def _readable_time(timestamp: str) -> str:
    """In this machine's time zone; the engine's zero time is empty."""
    found = None if timestamp.startswith("0001") else local_time(timestamp)
    return f"{found:%Y-%m-%d %H:%M:%S}" if found else ""

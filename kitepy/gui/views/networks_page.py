"""The networks of the engine: the list, and one network with who is attached to it."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu, QStackedWidget, QWidget

from kitepy.gui.models.log import local_time
from kitepy.gui.models.network import Member, NetworkRow, network_rows
from kitepy.gui.models.sidebar import Glyph, state_word
from kitepy.gui.models.state import NETWORKS, AppState, Page, Route
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton, back_button
from kitepy.gui.widgets.facts import Facts
from kitepy.gui.widgets.labels import ElidedLabel, Pill, label
from kitepy.gui.widgets.layout import Placeholder, card, column, frame, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table

_COLUMNS: tuple[Column[NetworkRow], ...] = (
    Column("Name", lambda item: item.network.name, tone=lambda item: "muted" if item.network.predefined else ""),
    Column("Driver", lambda item: item.network.driver),
    Column("Subnet", lambda item: item.network.subnet_text),
    Column("Gateway", lambda item: item.network.gateway_text),
    Column("Attached", lambda item: item.attached, lambda item: len(item.members)),
    Column("", lambda item: item.traits, tone=lambda _item: "muted"),
)
_MEMBER_COLUMNS: tuple[Column[Member], ...] = (
    Column("Container", lambda member: _member_name(member), tone=lambda member: _tone(member)),
    Column("IPv4", lambda member: member.attachment.address),
    Column("IPv6", lambda member: member.attachment.address6),
    Column("MAC", lambda member: member.attachment.mac),
)

_IPV6 = 2
_PREFIX = "com.docker.network."


def _member_name(member: Member) -> str:
    alive = member.container.status.alive
    return member.container.name if alive else f"{member.container.name} ({state_word(member.container).lower()})"


def _tone(member: Member) -> str:
    return "" if member.container.status.alive else "muted"


class NetworksPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("networks-page")
        self._intents = intents
        self._state = AppState()
        self._summary = label("", "muted")
        self.filter = SearchField("Filter networks", "network-filter", self._show_list, width=200)
        create = TextButton("Create…", "primary", "plus")
        create.setObjectName("network-create")
        create.clicked.connect(intents.create_network)
        self._open = TextButton("Open", "", "network")
        self._open.setObjectName("network-open")
        self._open.clicked.connect(lambda: self._open_row(self.list.selected()))
        self._remove = TextButton("Remove…", "", "trash")
        self._remove.setObjectName("network-remove")
        self._remove.clicked.connect(lambda: self._remove_row(self.list.selected()))
        model: TableModel[NetworkRow] = TableModel(_COLUMNS, lambda item: item.network.id, self)
        self.list: Table[NetworkRow] = Table("networks-list", "Networks", model, 4, {0: 160, 1: 80, 2: 140, 3: 110, 5: 110})
        self.list.selection_moved.connect(self._selection_moved)
        self.list.opened.connect(self._open_row)
        self.list.menu_wanted.connect(self._menu)
        self._placeholder = Placeholder("network")
        self._placeholder.acted.connect(intents.refresh)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(6, 6, 6, 6))))
        overview = QWidget()
        overview.setLayout(
            column(
                row(label("Networks", "title"), self._summary, 0, self.filter, spacing=12),
                row(0, self._remove, self._open, create, spacing=8),
                self._body,
                spacing=10,
                margins=(32, 24, 32, 24),
            )
        )
        self.detail = NetworkDetail(intents)
        self._pages = QStackedWidget()
        self._pages.addWidget(overview)
        self._pages.addWidget(self.detail)
        self.setLayout(column(self._pages))
        self._selection_moved()

    def show_state(self, state: AppState) -> None:
        self._state = state
        if state.route.key:
            rows = network_rows(state.networks, state.containers.values())
            self.detail.show_row(next((item for item in rows if item.network.id == state.route.key), None))
            self._pages.setCurrentIndex(1)
            return
        self._pages.setCurrentIndex(0)
        self._show_list()

    def _show_list(self) -> None:
        state = self._state
        shown = network_rows(state.networks, state.containers.values(), self.filter.text())
        self._summary.setText(str(len(state.networks)) if state.networks else "")
        self.list.show_values(shown)
        self._body.setCurrentIndex(1 if shown else 0)
        if shown:
            return
        if state.networks:
            self._placeholder.say(
                "No network matches", f"None of {len(state.networks)} networks has “{self.filter.text()}” in its row."
            )
        elif state.networks_list.error:
            self._placeholder.say("The networks couldn't be read", state.networks_list.error, "Try again")
        elif state.networks_list.loaded:
            self._placeholder.say("No networks", "This engine has none.")
        else:
            self._placeholder.say("Waiting for the engine…", "The networks are listed as soon as it answers.")

    def _selection_moved(self) -> None:
        selected = self.list.selected()
        self._open.setEnabled(selected is not None)
        self._remove.setEnabled(selected is not None and not selected.network.predefined)

    def _open_row(self, item: NetworkRow | None) -> None:
        if item is not None:
            self._intents.navigate.emit(Route(Page.NETWORKS, item.network.id))

    def _remove_row(self, item: NetworkRow | None) -> None:
        if item is not None:
            self._intents.remove_network.emit(item.network.id)

    def _menu(self, item: NetworkRow, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Open").triggered.connect(lambda: self._open_row(item))
        connect = menu.addAction("Connect a container…")
        connect.setEnabled(item.network.takes_containers)
        connect.triggered.connect(lambda: self._intents.connect_container.emit(item.network.id))
        menu.addAction("Copy id").triggered.connect(lambda: self._intents.copy_text.emit(item.network.id, "the id"))
        remove = menu.addAction("Remove…")
        remove.setEnabled(not item.network.predefined)
        remove.triggered.connect(lambda: self._remove_row(item))
        menu.popup(point)


class NetworkDetail(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._row: NetworkRow | None = None
        back = back_button(self, "All networks", "network-back", lambda: intents.navigate.emit(NETWORKS))
        self._name = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._name.setObjectName("network-name")
        self._pill = Pill()
        self._connect = TextButton("Connect…", "primary", "link")
        self._connect.setObjectName("network-connect")
        self._connect.clicked.connect(lambda: self._row and intents.connect_container.emit(self._row.network.id))
        self._remove = TextButton("Remove…", "", "trash")
        self._remove.setObjectName("network-detail-remove")
        self._remove.clicked.connect(lambda: self._row and intents.remove_network.emit(self._row.network.id))
        self._facts = Facts(intents.copy_text.emit)
        model: TableModel[Member] = TableModel(_MEMBER_COLUMNS, lambda member: member.container.id, self)
        self.members: Table[Member] = Table("network-members", "Attached containers", model, 0, {1: 112, 2: 124, 3: 140})
        self.members.opened.connect(self._show_container)
        self.members.menu_wanted.connect(self._menu)
        self.members.selection_moved.connect(self._selection_moved)
        self._show = TextButton("Show container", "", "container")
        self._show.setObjectName("network-show-container")
        self._show.clicked.connect(lambda: self._show_container(self.members.selected()))
        self._disconnect = TextButton("Disconnect…", "", "unlink")
        self._disconnect.setObjectName("network-disconnect")
        self._disconnect.clicked.connect(lambda: self._disconnect_member(self.members.selected()))
        self._nobody = Placeholder("link")
        self._body = QStackedWidget()
        self._body.addWidget(self._nobody)
        self._body.addWidget(self.members)
        facts = card("About", self._facts, 0)
        facts.setFixedWidth(272)
        members = card("Attached containers", self._body, row(0, self._disconnect, self._show, spacing=8))
        body = row(members, facts, spacing=14)
        body.setStretch(0, 1)
        self.setLayout(
            column(
                row(back, self._name, self._pill, 0, self._remove, self._connect, spacing=10),
                6,
                body,
                spacing=8,
                margins=(24, 22, 32, 24),
            )
        )

    def show_row(self, item: NetworkRow | None) -> None:
        """None while it isn't listed yet."""
        self._row = item
        self._pill.setVisible(item is not None)
        self._connect.setEnabled(item is not None and item.network.takes_containers)
        self._remove.setEnabled(item is not None and not item.network.predefined)
        if item is None:
            self._name.set_text("")
            self._facts.show_facts([])
            self.members.show_values(())
            self._body.setCurrentIndex(0)
            self._nobody.say("Waiting for the engine…")
            return
        network = item.network
        self._name.set_text(network.name)
        alive = sum(member.container.status.alive for member in item.members)
        self._pill.show_state(Glyph.RUNNING if alive else Glyph.STOPPED, f"{alive} running" if item.members else "Unused")
        created = local_time(network.created_at) if network.created_at and not network.created_at.startswith("0001") else None
        self._facts.show_facts(
            [
                ("Driver", network.driver, False),
                *(("Subnet", subnet.subnet, True) for subnet in network.subnets),
                *(("Gateway", subnet.gateway, True) for subnet in network.subnets),
                *(("Range", subnet.ip_range, False) for subnet in network.subnets),
                ("Internal", "yes" if network.internal else "no", False),
                ("IPv6", "yes" if network.ipv6 else "no", False),
                ("Created", f"{created:%Y-%m-%d %H:%M:%S}" if created else "", False),
                ("Id", network.id[:12], True),
                *(("", f"{key} = {value}", False) for key, value in network.labels.items()),
                *(("", f"{key.removeprefix(_PREFIX)} = {value}", False) for key, value in network.options.items()),
            ]
        )
        self.members.setColumnHidden(_IPV6, not any(member.attachment.address6 for member in item.members))
        self.members.show_values(item.members)
        self._body.setCurrentIndex(1 if item.members else 0)
        if not item.members:
            why = "Containers are put on it when they are made." if not network.takes_containers else "Connect one to it."
            self._nobody.say("No container is attached", why)
        self._selection_moved()

    def _selection_moved(self) -> None:
        member = self.members.selected()
        self._show.setEnabled(member is not None)
        self._disconnect.setEnabled(member is not None and self._row is not None and self._row.network.takes_containers)

    def _show_container(self, member: Member | None) -> None:
        if member is not None:
            self._intents.navigate.emit(Route(Page.CONTAINER, member.container.id))

    def _disconnect_member(self, member: Member | None) -> None:
        if member is not None and self._row is not None:
            self._intents.disconnect_container.emit(self._row.network.id, member.container.id)

    def _menu(self, member: Member, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Show container").triggered.connect(lambda: self._show_container(member))
        attachment = member.attachment
        texts = {"IPv4 address": attachment.address, "IPv6 address": attachment.address6, "MAC address": attachment.mac}
        for title, text in texts.items():
            entry = menu.addAction(f"Copy {title}")
            entry.setEnabled(bool(text))
            entry.triggered.connect(lambda _=False, text=text, title=title: self._intents.copy_text.emit(text, f"the {title}"))
        entry = menu.addAction("Disconnect…")
        entry.setEnabled(self._disconnect.isEnabled())
        entry.triggered.connect(lambda: self._disconnect_member(member))
        menu.popup(point)

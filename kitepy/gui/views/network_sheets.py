"""Questions about networks: a new one, and which container to connect."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QLineEdit, QWidget

from kitepy.gui.models.container import Container
from kitepy.gui.models.network import Network, NetworkPlan, trouble_with_address, trouble_with_network
from kitepy.gui.models.sidebar import state_word
from kitepy.gui.widgets.buttons import Choice
from kitepy.gui.widgets.form import FormSheet
from kitepy.gui.widgets.labels import label

_CHOSEN = "chosen by the engine"


class NewNetworkSheet(FormSheet):
    confirmed = Signal(object)
    """NetworkPlan"""

    def __init__(self, parent: QWidget, networks: Sequence[Network]) -> None:
        super().__init__(parent, "new-network", "Create a network")
        self._networks = networks
        self._name = QLineEdit()
        self._driver = Choice()
        self._driver.addItem("bridge: containers reach each other by name", "bridge")
        self._driver.addItem("macvlan: own address in the host's network", "macvlan")
        self._driver.addItem("ipvlan: the same with the host's MAC address", "ipvlan")
        self._driver.currentIndexChanged.connect(self._follow)
        self._parent = QLineEdit(placeholderText="eth0; empty for a network without a way out")
        self._subnet = QLineEdit(placeholderText=_CHOSEN)
        self._gateway = QLineEdit(placeholderText=_CHOSEN)
        self._ipv6 = QCheckBox("IPv6 too")
        self._ipv6.toggled.connect(self._follow)
        self._subnet6 = QLineEdit(placeholderText=_CHOSEN)
        self._internal = QCheckBox("Internal: containers reach each other, nothing outside")
        self.add("Name", self._name, "new-network-name")
        self.add("Driver", self._driver, "new-network-driver")
        self.add("Interface", self._parent, "new-network-parent")
        self.add("Subnet", self._subnet, "new-network-subnet")
        self.add("Gateway", self._gateway, "new-network-gateway")
        self.add("", self._internal, "new-network-internal")
        self.add("", self._ipv6, "new-network-ipv6")
        self.add("IPv6 subnet", self._subnet6, "new-network-subnet6")
        self.build("Create")
        self._follow()
        self.accepted.connect(lambda: self.confirmed.emit(self._plan()))

    def _follow(self) -> None:
        self._parent.setEnabled(self._driver.currentData() != "bridge")
        self._subnet6.setEnabled(self._ipv6.isChecked())
        self.check()

    def _plan(self) -> NetworkPlan:
        ipv6 = self._ipv6.isChecked()
        return NetworkPlan(
            self._name.text().strip(),
            str(self._driver.currentData()),
            self._subnet.text().strip(),
            self._gateway.text().strip(),
            self._internal.isChecked(),
            ipv6,
            self._subnet6.text().strip() if ipv6 else "",
            self._parent.text().strip() if self._parent.isEnabled() else "",
        )

    def trouble(self) -> str:
        return trouble_with_network(self._plan(), self._networks)

    def unfinished(self) -> bool:
        return not self._name.text().strip()


class ConnectSheet(FormSheet):
    confirmed = Signal(str, str)
    """Container id, address or an empty text."""

    def __init__(self, parent: QWidget, network: Network, candidates: Sequence[Container]) -> None:
        super().__init__(parent, "connect-container", f"Connect a container to {network.name}")
        self._network = network
        self._container = Choice()
        for container in candidates:
            self._container.addItem(f"{container.name} ({state_word(container).lower()})", container.id)
        self._address = QLineEdit(placeholderText=_CHOSEN)
        self._address.setEnabled(bool(candidates) and not network.predefined)
        self._container.setEnabled(bool(candidates))
        self.add("Container", self._container, "connect-which")
        self.add("Address", self._address, "connect-address")
        none = "" if candidates else "Every container is on it already, or shares another's network."
        self.build("Connect", *([label(none, "muted", wrap=True)] if none else []))
        self.accepted.connect(lambda: self.confirmed.emit(str(self._container.currentData()), self._address.text().strip()))

    def trouble(self) -> str:
        if not self._container.isEnabled():
            return "There is nothing to connect."
        return trouble_with_address(self._address.text().strip(), self._network)

    def unfinished(self) -> bool:
        return not self._container.isEnabled()

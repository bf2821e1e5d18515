"""A macvlan or ipvlan network as ``Networks`` handles it; what it consists of is made by ``parent_links``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kitepy.engine.kernel.netlink import Message, RouteSocket
from kitepy.engine.model.network import NetworkDriver, NetworkRecord
from kitepy.engine.network.parent_links import ParentLinks, parse_options
from kitepy.engine.network.rules import RuleContext

_LAYER_3_MODES = ("l3", "l3s")


class ParentCarrier:
    """A ``Carrier``."""

    uses_veth = False
    takes_ports = False
    binding = ""
    mtu = 0
    master = 0
    context: RuleContext | None = None
    warnings: tuple[str, ...] = ()

    def __init__(self, record: NetworkRecord, links: ParentLinks, others: Callable[[], Iterable[NetworkRecord]]) -> None:
        """``others`` gives the networks that exist, with which the parent may have to be shared."""
        self.record = record
        self._links = links
        self._others = others

    @property
    def takes_mac(self) -> bool:
        return self.record.driver is NetworkDriver.MACVLAN

    @property
    def leads_out_itself(self) -> bool:
        record = self.record
        routed = record.driver is NetworkDriver.IPVLAN and parse_options(record).mode in _LAYER_3_MODES
        return routed and not record.internal and bool(record.option("parent"))

    def set_up(self) -> None:
        self.record = self._links.create(self.record, list(self._others()))

    def is_there(self) -> bool:
        with RouteSocket() as host:
            return host.link(self.record.device) is not None

    def tear_down(self) -> None:
        self._links.remove(self.record)

    def port_messages(self, index: int) -> list[Message]:
        raise NotImplementedError  # there are no ports

    def add_interface(self, netns_fd: int, name: str, mac: str) -> None:
        self._links.add_interface(self.record, netns_fd, name, mac or None)

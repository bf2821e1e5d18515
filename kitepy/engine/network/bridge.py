"""A bridge network's part in the kernel: its device, and how a container's veth pair becomes a port of it.

The methods block and are called on threads. What the network's rules depend on is a value, ``context``; the rules of all
networks are one table, which isn't this module's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from kitepy.engine.kernel.netlink import Message, RouteSocket, isolate_port, set_link
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.network import ANY_IPV4, NetworkDriver, NetworkRecord
from kitepy.engine.network.bridge_link import BridgeState, prepare_bridge, remove_bridge
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.ipam import bridge_addresses, used_subnets
from kitepy.engine.network.naming import KernelNames
from kitepy.engine.network.rules import GatewayMode, RuleContext

BRIDGE_OPTION = "com.docker.network.bridge."
MTU_OPTION = "com.docker.network.driver.mtu"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


class Carrier(Protocol):
    """What a driver does for one network. Methods block, and raise OSError and EngineError."""

    @property
    def record(self) -> NetworkRecord:
        """The network, with the interface that carries it once that is known."""

    @property
    def mtu(self) -> int:
        """Of the interfaces of its containers."""

    @property
    def context(self) -> RuleContext | None:
        """What its rules depend on; None without any."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What this host refused."""

    @property
    def takes_ports(self) -> bool:
        """Whether ports of its containers can be published on the host."""

    @property
    def binding(self) -> str:
        """The host's address for ports that name none; empty for all of them."""

    @property
    def uses_veth(self) -> bool:
        """Whether containers are plugged in by veth pairs; otherwise ``add_interface`` makes their interface."""

    @property
    def master(self) -> int:
        """The index of the device that the host's ends of veth pairs are ports of."""

    @property
    def takes_mac(self) -> bool:
        """Whether its containers' interfaces have MAC addresses of their own."""

    @property
    def leads_out_itself(self) -> bool:
        """Whether default routes lead to the interface as such, without a gateway."""

    def set_up(self) -> None:
        """Make or reuse the network's device."""

    def tear_down(self) -> None:
        """Remove it. Idempotent."""

    def is_there(self) -> bool:
        """Whether the device exists: others may have removed it."""

    def port_messages(self, index: int) -> list[Message]:
        """What makes the host's end of a veth pair a part of the network."""

    def add_interface(self, netns_fd: int, name: str, mac: str) -> None:
        """Make a container's interface, down, in its namespace."""


def is_true(text: str) -> bool:
    """A driver option that is on."""
    return text in _TRUE


def owner_mark(names: KernelNames, network_id: str) -> str:
    """What is noted on devices that are made for a network."""
    return f"{owner_prefix(names)}{network_id}"


def owner_prefix(names: KernelNames) -> str:
    """What the marks of all devices of an engine begin with."""
    return f"kitepy/{names.tag}/"


def default_record(names: KernelNames, settings: BridgeSettings, network_id: str, created: str) -> NetworkRecord:
    """The default network before it has an address, with the options that dockerd shows for its own."""
    return NetworkRecord(
        network_id=network_id,
        name=settings.name,
        driver=NetworkDriver.BRIDGE,
        created=created,
        options=(
            (BRIDGE_OPTION + "default_bridge", "true"),
            (BRIDGE_OPTION + "enable_icc", str(settings.icc).lower()),
            (BRIDGE_OPTION + "enable_ip_masquerade", str(settings.masquerade and settings.use_rules).lower()),
            (BRIDGE_OPTION + "host_binding_ipv4", settings.host_ip),
            (BRIDGE_OPTION + "name", names.bridge),
        ),
        device=names.bridge,
    )


def device_of(record: NetworkRecord) -> str:
    """The name of a network's bridge."""
    return record.device or record.option(BRIDGE_OPTION + "name") or f"br-{record.network_id[:12]}"


class Bridge:
    """A ``Carrier``."""

    uses_veth = True
    takes_mac = True
    leads_out_itself = False

    def __init__(self, record: NetworkRecord, names: KernelNames, settings: BridgeSettings) -> None:
        """``record`` is resolved by the time of ``set_up``."""
        self.record = replace(record, device=device_of(record))
        self._settings = settings
        self._is_default = is_true(record.option(BRIDGE_OPTION + "default_bridge"))
        self._mark = owner_mark(names, record.network_id)
        self._state: BridgeState | None = None

    @property
    def state(self) -> BridgeState:
        """The device. Raises SystemFailure before it is set up."""
        if self._state is None:
            raise SystemFailure(f"network {self.record.name} is not set up")
        return self._state

    @property
    def mtu(self) -> int:
        return self.state.mtu

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._state.warnings if self._state is not None else ()

    @property
    def icc(self) -> bool:
        """Whether its containers may talk to each other."""
        return is_true(self._option("enable_icc", "true"))

    @property
    def takes_ports(self) -> bool:
        return not self.record.internal

    @property
    def binding(self) -> str:
        address = self._option("host_binding_ipv4", "")
        return "" if address == ANY_IPV4 else address

    def _option(self, key: str, default: str) -> str:
        return self.record.option(BRIDGE_OPTION + key, default)

    def _mode(self, version: int) -> GatewayMode:
        text = self._option(f"gateway_mode_ipv{version}", "") or "nat"
        try:
            return GatewayMode(text)
        except ValueError:
            raise InvalidParameter(f"unknown gateway mode {text}") from None

    @property
    def context(self) -> RuleContext | None:
        record = self.record
        if self._state is None:
            return None
        return RuleContext(
            bridge=record.device,
            subnets=used_subnets(record),
            icc=self.icc,
            loopback=self._state.loopback,
            masquerade=is_true(self._option("enable_ip_masquerade", "true")),
            internal=record.internal,
            gateway_mode4=self._mode(4),
            gateway_mode6=self._mode(6),
            source4=record.option("com.docker.network.host_ipv4"),
            source6=record.option("com.docker.network.host_ipv6"),
            trusted_interfaces=tuple(filter(None, self._option("trusted_host_interfaces", "").split(":"))),
        )

    def set_up(self) -> None:
        record, settings = self.record, self._settings
        mtu = record.option(MTU_OPTION)
        self._state = state = prepare_bridge(
            record.device,
            bridge_addresses(record),
            int(mtu) if mtu.isdecimal() and int(mtu) else (settings.mtu if self._is_default else None),
            forward=settings.forward and not record.internal,
            owner=self._mark,
            route_loopback=not record.internal,
            foreign=self._is_default and settings.foreign,
        )
        if self._is_default:
            self.record = replace(record, options=(*record.options, (MTU_OPTION, str(state.mtu))))

    def is_there(self) -> bool:
        with RouteSocket() as host:
            link = host.link(self.record.device)
        return link is not None and link.index == self.state.index

    def tear_down(self) -> None:
        self._state = None
        remove_bridge(self.record.device, self._mark)

    @property
    def master(self) -> int:
        return self.state.index

    def port_messages(self, index: int) -> list[Message]:
        joined = set_link(index, master=self.master)
        return [joined] if self.icc else [joined, isolate_port(index)]

    def add_interface(self, netns_fd: int, name: str, mac: str) -> None:
        raise NotImplementedError  # veth pairs it is

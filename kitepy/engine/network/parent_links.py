"""macvlan and ipvlan networks: containers get a link of their own on a parent link of the host, and no bridge is involved.

The parent is the interface that the option ``parent`` names; a VLAN of it (``eth0.10``) is made if it isn't there, and a network
without a parent gets one that leads nowhere. Links that were made here carry an alias with the network's identifier; what
has such an alias and no network is left over from a crash. Wording and statuses are dockerd's.

All functions block for the kernel, and address nothing: that is the sandbox's part. The parent belongs to the network
namespace of the engine, so an ordinary user's engine has networks without a parent only.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kitepy.engine.kernel.netlink import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    Link,
    RouteSocket,
    add_dummy,
    add_ifb,
    add_ipvlan,
    add_macvlan,
    add_vlan,
    delete_link,
    set_link,
)
from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.network import NetworkDriver, NetworkRecord

logger = logging.getLogger(__name__)

MTU_OPTION = "com.docker.network.driver.mtu"

_ROOTLESS = "an ordinary user's engine has a network namespace of its own and doesn't see the machine's interfaces"
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_DUMMY_PREFIXES = {NetworkDriver.MACVLAN: "dm-", NetworkDriver.IPVLAN: "di-"}


@dataclass(frozen=True)
class ParentOptions:
    """What a network's options say. ``parent`` is empty for a network that is to lead nowhere."""

    mode: str
    flag: str
    parent: str
    mtu: int | None


def parse_options(record: NetworkRecord) -> ParentOptions:
    """Raises SystemFailure for what the drivers don't know, as dockerd does, and InvalidParameter for a bad MTU."""
    kind = record.driver.value
    parent = record.option("parent")
    if record.driver is NetworkDriver.MACVLAN:
        mode = _choice(record, "macvlan_mode", MACVLAN_MODES, "bridge", "'bridge' mode is")
        flag = ""
    else:
        mode = _choice(record, "ipvlan_mode", IPVLAN_MODES, "l2", "'l2' mode is")
        flag = _choice(record, "ipvlan_flag", IPVLAN_FLAGS, "bridge", "'bridge' is")
    if parent == "lo":
        raise SystemFailure(f"loopback interface is not a valid {kind} parent link")
    return ParentOptions(mode, flag, parent, _mtu(record.option(MTU_OPTION)))


def _choice(record: NetworkRecord, option: str, known: Iterable[str], default: str, described: str) -> str:
    value = record.option(option) or default
    if value not in known:
        what = option.replace("_", " ")
        raise SystemFailure(f"requested {what} '{value}' is not valid, {described} the {record.driver.value} driver default")
    return value


def _mtu(text: str) -> int | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or int(text) < 0:
        raise InvalidParameter(f'failed to parse {MTU_OPTION} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)')
    return int(text) or None


def parse_vlan(name: str, links: Iterable[str]) -> tuple[str, int]:
    """The interface and the VLAN of a name like ``eth0.10``. Raises SystemFailure."""
    if "." not in name:
        raise SystemFailure(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    parent, _, number = name.partition(".")
    if "." in number:
        raise SystemFailure(f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}")
    if not _NUMBER.fullmatch(number):
        raise SystemFailure(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    if parent not in links:
        raise SystemFailure(f"-o parent interface was not found on the host: {parent}")
    if not 1 <= int(number) <= 4094:
        raise SystemFailure(f"vlan id must be between 1-4094, received: {int(number)}")
    return parent, int(number)


def check_neighbours(record: NetworkRecord, options: ParentOptions, device: str, others: Iterable[NetworkRecord]) -> None:
    """Whether the parent may have one more network. Raises SystemFailure."""
    for other in others:
        if other.driver is not record.driver or other.device != device or other.network_id == record.network_id:
            continue
        if record.driver is NetworkDriver.IPVLAN:
            raise SystemFailure(f"network {dummy_name(other)} is already using parent interface {device}")
        using = f"macvlan network {other.network_id} is already using parent interface {device}"
        if options.mode == "passthru":
            raise SystemFailure(f"cannot use mode passthru, {using}")
        if other.option("macvlan_mode") == "passthru":
            raise SystemFailure(f"{using} in mode passthru")


def dummy_name(record: NetworkRecord) -> str:
    """The parent of a network that has none, named as dockerd does."""
    return _DUMMY_PREFIXES[record.driver] + record.network_id[:12]


class ParentLinks:
    """Makes and removes what macvlan and ipvlan networks consist of."""

    def __init__(self, tag: str, *, rootless: bool = False) -> None:
        """``tag`` tells this engine's links from those of others. ``rootless``: there are no interfaces of the machine."""
        self._alias_prefix = f"kitepy {tag} parent "
        self._rootless = rootless

    def create(self, record: NetworkRecord, others: Iterable[NetworkRecord] = ()) -> NetworkRecord:
        """Checks the options and sees to the parent link; gives the record with its ``device``. Raises EngineError.

        ``others`` are the networks that exist. Idempotent: a stored network gets its parent back after a reboot.
        """
        options = parse_options(record)
        device = options.parent or dummy_name(record)
        with RouteSocket() as host:
            if host.link(device) is None:
                self._add_parent(host, record, options, device)
            else:
                logger.debug("network %s uses the interface %s, which exists", record.name, device)
        try:
            check_neighbours(record, options, device, others)
        except SystemFailure:
            self.remove(replace(record, device=device))
            raise
        return replace(record, device=device)

    def _add_parent(self, host: RouteSocket, record: NetworkRecord, options: ParentOptions, device: str) -> None:
        if options.parent:
            try:
                name, vlan_id = parse_vlan(device, [link.name for link in host.links()])
            except SystemFailure as error:
                if not self._rootless:
                    raise
                raise SystemFailure(f"{error}; {_ROOTLESS}") from None
            base = host.link(name)
            if base is None:
                raise SystemFailure(f"-o parent interface was not found on the host: {name}")
            message = add_vlan(device, parent_index=base.index, vlan_id=vlan_id)
            what = f"failed to create {device} vlan link: "
        else:
            message = add_dummy(device)
            what = ""
        try:
            try:
                host.execute([message])
            except OSError as error:
                if options.parent or error.errno != errno.EOPNOTSUPP:
                    raise
                host.execute([add_ifb(device)])  # a kernel without dummy links has another that swallows all it is given
            made = host.link(device)
            if made is None:
                raise OSError(errno.ENODEV, "it vanished")
            host.execute([set_link(made.index, alias=self._alias_prefix + record.network_id)])
        except OSError as error:
            raise SystemFailure(what + _go_error(error)) from error
        if not options.parent:
            try:
                write_sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "1")  # the host has no part in that network
            except OSError as error:
                logger.debug("interface %s keeps IPv6: %s", device, error)

    def remove(self, record: NetworkRecord) -> None:
        """Removes the parent if it was made for this network. Idempotent. Raises SystemFailure."""
        try:
            with RouteSocket() as host:
                link = host.link(record.device)
                if link is not None and link.alias == self._alias_prefix + record.network_id:
                    host.execute([delete_link(link.name)], tolerate=(errno.ENODEV,))
        except OSError as error:
            raise SystemFailure(f"removing interface {record.device} of network {record.name}: {_go_error(error)}") from error

    def remove_strays(self, known: Iterable[str]) -> list[str]:
        """Removes parents that were made for networks which don't exist any more; gives their names. Raises OSError."""
        wanted = {self._alias_prefix + network_id for network_id in known}
        with RouteSocket() as host:
            strays = [
                link.name for link in host.links() if link.alias.startswith(self._alias_prefix) and link.alias not in wanted
            ]
            for name in strays:
                host.execute([delete_link(name)], tolerate=(errno.ENODEV,))
        return strays

    def add_interface(self, record: NetworkRecord, netns_fd: int, name: str, mac: str | None = None) -> None:
        """Makes a container's link in its namespace, down and without address. Raises EngineError.

        ``mac`` doesn't apply to ipvlan, whose links have the address of their parent.
        """
        options = parse_options(record)
        with RouteSocket() as host:
            parent = host.link(record.device)
            if parent is None:
                raise SystemFailure(f"parent interface {record.device} of network {record.name} was not found on the host")
            self._check_mtu(options, parent)
            if record.driver is NetworkDriver.MACVLAN:
                message = add_macvlan(
                    name, parent_index=parent.index, mode=options.mode, netns_fd=netns_fd, mac=mac, mtu=options.mtu
                )
            else:
                message = add_ipvlan(
                    name,
                    parent_index=parent.index,
                    mode=options.mode,
                    flag=options.flag,
                    netns_fd=netns_fd,
                    mtu=options.mtu,
                )
            try:
                host.execute([message])
            except OSError as error:
                raise SystemFailure(f"failed to create the {record.driver.value} port: {_go_error(error)}") from error

    def _check_mtu(self, options: ParentOptions, parent: Link) -> None:
        if options.mtu is not None and options.mtu > parent.mtu:
            raise SystemFailure(f"MTU {options.mtu} exceeds that of the parent interface {parent.name} ({parent.mtu})")


def _go_error(error: OSError) -> str:
    """The kernel's words as Go has them."""
    return "operation not supported" if error.errno == errno.EOPNOTSUPP else os.strerror(error.errno or 0).lower()

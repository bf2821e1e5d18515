"""Where networks get subnets from when nobody names one, and which addresses of a subnet are free. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from kitepy.engine.model.errors import Forbidden, InvalidParameter, SystemFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

POOLS_EXHAUSTED = "all predefined address pools have been fully subnetted"
IN_USE = "Address already in use"
NONE_FREE = "no available addresses on this pool"

_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class AddressRange:
    """Addresses that networks may use, cut into subnets of one size; ``--default-address-pool`` of the engine."""

    base: Network
    size: int
    """The prefix length of each subnet."""

    def __post_init__(self) -> None:
        if not self.base.prefixlen <= self.size <= self.base.max_prefixlen:
            raise ValueError(f"invalid pool size: {self.size} is no prefix length within {self.base}")


def _docker_ranges() -> Iterator[AddressRange]:
    yield from (AddressRange(IPv4Network((f"172.{second}.0.0", 16)), 16) for second in range(17, 32))
    yield AddressRange(IPv4Network("192.168.0.0/16"), 20)


DEFAULT_RANGES = tuple(_docker_ranges())
"""In the order that Docker's users expect."""


def ula_range(seed: str) -> AddressRange:
    """The unique local addresses (RFC 4193) of an engine, the same at each start: dockerd's way to derive the global id."""
    global_id = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") & (1 << 40) - 1
    return AddressRange(IPv6Network((0xFD << 120 | global_id << 80, 48)), 64)


def parse_subnet(text: str) -> Network:
    """A subnet as Go reads one, host bits and all: no net mask, no zone, no leading zeros. Raises ValueError.

    ``ipaddress`` refuses set host bits; here they are dropped, and the caller compares when it matters.
    """
    address, slash, length = text.partition("/")
    if not slash or not _LENGTH.fullmatch(length) or "%" in address:
        raise ValueError("invalid CIDR block notation")
    return ip_network((address, int(length)), strict=False)


def choose_subnet(ranges: Iterable[AddressRange], version: int, taken: Iterable[Network]) -> Network:
    """The first subnet of the ranges that overlaps nothing. Default routes must not be among ``taken``.

    Raises InvalidParameter when there is none.
    """
    occupied = sorted(
        (int(network.network_address), int(network.broadcast_address)) for network in taken if network.version == version
    )
    for addresses in ranges:
        if addresses.base.version != version:
            continue
        step = 1 << (addresses.base.max_prefixlen - addresses.size)
        candidate, end = int(addresses.base.network_address), int(addresses.base.broadcast_address)
        for first, last in occupied:
            if last >= candidate and first < candidate + step:
                candidate = (last // step + 1) * step  # subnets are aligned to their size
        if candidate <= end:
            return ip_network((candidate, addresses.size)) if version == 4 else IPv6Network((candidate, addresses.size))
    raise InvalidParameter(POOLS_EXHAUSTED)


class SubnetAddresses:
    """The addresses of one subnet. The lowest free one is given out, as dockerd does."""

    def __init__(self, subnet: Network) -> None:
        self.subnet = subnet
        self._taken = set(_unusable(subnet))
        self._reserved = frozenset(self._taken)
        # No address of a part that was chosen from is free below this one: keeps from walking over a thousand taken ones.
        self._lowest: dict[Network, int] = {}

    def __len__(self) -> int:
        """How many addresses are given out."""
        return len(self._taken) - len(self._reserved)

    def is_taken(self, address: Address) -> bool:
        """Whether the address can't be given out now."""
        return int(address) in self._taken

    def allocate(self, part: Network | None = None) -> Address:
        """Takes the lowest free address, of a part of the subnet if one is given. Raises SystemFailure when there is none."""
        part = part or self.subnet
        candidate, last = self._lowest.get(part, int(part.network_address)), int(part.broadcast_address)
        while candidate in self._taken:
            candidate += 1
        self._lowest[part] = candidate
        if candidate > last:
            raise SystemFailure(NONE_FREE)
        self._taken.add(candidate)
        return part.network_address + (candidate - int(part.network_address))

    def reserve(self, address: Address) -> None:
        """Takes a certain address. Raises InvalidParameter outside the subnet, Forbidden when it is in use."""
        if address not in self.subnet:
            raise InvalidParameter(f"requested address {address} is out of range: subnet {self.subnet} doesn't contain it")
        if int(address) in self._taken:
            raise Forbidden(IN_USE)
        self._taken.add(int(address))

    def release(self, address: Address) -> None:
        """Gives an address back; unknown ones are ignored."""
        number = int(address)
        if address not in self.subnet or number not in self._taken or number in self._reserved:
            return
        self._taken.discard(number)
        for part, lowest in self._lowest.items():
            if address in part and number < lowest:
                self._lowest[part] = number


def _unusable(subnet: Network) -> Sequence[int]:
    """The subnet's own address (in IPv6 the routers' anycast address) and the one for broadcasts."""
    if subnet.version == 6:
        return (int(subnet.network_address),)
    if subnet.prefixlen >= 31:  # RFC 3021: both are hosts
        return ()
    return (int(subnet.network_address), int(subnet.broadcast_address))

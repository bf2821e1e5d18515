"""Who is called what in which network, and what a container may see of it: the decisions of the networks' name service.

Pure: questions come as text, answers are addresses or names. The wire format is ``resolver_answers``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

Message = dict[str, object]


@dataclass(frozen=True)
class NamedEndpoint:
    """A container's place in one network as the name service knows it; empty addresses are missing ones."""

    endpoint_id: str
    network_id: str
    network: str
    """The network's name, by which its names can be qualified."""
    names: tuple[str, ...]
    """The first is the one that addresses lead back to."""
    address: str = ""
    address6: str = ""

    def to_list(self) -> list[object]:
        """For a message."""
        return [self.endpoint_id, self.network_id, self.network, list(self.names), self.address, self.address6]

    @staticmethod
    def from_list(values: list[Any]) -> NamedEndpoint:
        """What ``to_list`` gave."""
        endpoint_id, network_id, network, names, address, address6 = values
        return NamedEndpoint(endpoint_id, network_id, network, tuple(names), address, address6)


@dataclass(frozen=True)
class View:
    """What one container sees: its networks in the order in which names are looked for, and where else it may ask."""

    networks: tuple[str, ...]
    """Identifiers."""
    links: tuple[tuple[str, str, str], ...] = ()
    """Names of its own: (network id, alias, name of the other container in that network)."""
    upstream: tuple[str, ...] = ()
    """Servers that get what is not known here, as ``resolv_conf`` gives them: asked from the container's own network
    namespace, or from the engine's when written ``host(ADDRESS)``."""
    internal: bool = False
    """All its networks are internal: nothing is asked from the engine's namespace then."""
    keeps_single_labels: bool = False
    """The number of dots is set by an option: the client tries its search domains itself, so names without a dot stay here."""

    def to_message(self) -> Message:
        """For the resolver process."""
        return {
            "networks": list(self.networks),
            "links": [list(link) for link in self.links],
            "upstream": list(self.upstream),
            "internal": self.internal,
            "keeps_single_labels": self.keeps_single_labels,
        }

    @staticmethod
    def from_message(message: Mapping[str, Any]) -> View:
        """What ``to_message`` gave."""
        return View(
            tuple(message["networks"]),
            tuple((str(network), str(alias), str(target)) for network, alias, target in message["links"]),
            tuple(message["upstream"]),
            bool(message["internal"]),
            bool(message["keeps_single_labels"]),
        )


@dataclass
class _Zone:
    """One network."""

    name: str
    by_name: dict[str, dict[str, NamedEndpoint]] = field(default_factory=dict)
    by_pointer: dict[str, dict[str, str]] = field(default_factory=dict)


class Directory:
    """All networks' names. Names compare without regard to case."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._endpoints: dict[str, NamedEndpoint] = {}

    def __contains__(self, endpoint_id: object) -> bool:
        return endpoint_id in self._endpoints

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._endpoints))

    def announce(self, endpoint: NamedEndpoint) -> None:
        """From now on these are the endpoint's names and addresses."""
        self.withdraw(endpoint.endpoint_id)
        self._endpoints[endpoint.endpoint_id] = endpoint
        zone = self._zones.setdefault(endpoint.network_id, _Zone(endpoint.network))
        zone.name = endpoint.network
        for name in endpoint.names:
            zone.by_name.setdefault(_key(name), {})[endpoint.endpoint_id] = endpoint
        for pointer in _pointers(endpoint):
            zone.by_pointer.setdefault(pointer, {})[endpoint.endpoint_id] = endpoint.names[0] if endpoint.names else ""

    def withdraw(self, endpoint_id: str) -> None:
        """Forget an endpoint. Idempotent."""
        endpoint = self._endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return
        zone = self._zones[endpoint.network_id]
        for table, keys in ((zone.by_name, [_key(name) for name in endpoint.names]), (zone.by_pointer, _pointers(endpoint))):
            for key in keys:
                holders: dict[str, Any] = table.get(key, {})
                holders.pop(endpoint_id, None)
                if not holders:
                    table.pop(key, None)
        if not zone.by_name and not zone.by_pointer:
            del self._zones[endpoint.network_id]

    def addresses(self, view: View, name: str, *, ipv6: bool) -> list[str] | None:
        """The addresses of a name; none when it is known without one of this family, None when it isn't known at all.

        A name may be qualified by its network's, and both may contain dots: the longest name is tried first. Of several
        networks the first that knows the name answers alone.
        """
        for plain, network in _readings(name):
            for own in (True, False):
                found = self._look(view, plain, network, own=own)
                if found is not None:
                    chosen = (endpoint.address6 if ipv6 else endpoint.address for endpoint in found)
                    return list(dict.fromkeys(address for address in chosen if address))
        return None

    def _look(self, view: View, name: str, network: str, *, own: bool) -> Iterable[NamedEndpoint] | None:
        for network_id in view.networks:
            zone = self._zones.get(network_id)
            if zone is None or (network and _key(network) != _key(zone.name)):
                continue
            target = next((to for at, alias, to in view.links if at == network_id and _key(alias) == _key(name)), None)
            if own == (target is None):
                continue  # a name that the container gave itself hides the network's
            found = zone.by_name.get(_key(target.removeprefix("/") if target is not None else name))
            if found:
                return found.values()
        return None

    def pointer(self, view: View, name: str) -> str | None:
        """What an address of the container's networks is called, qualified; ``name`` is ``4.3.2.1.in-addr.arpa`` or the like."""
        for network_id in view.networks:
            zone = self._zones.get(network_id)
            holders = zone.by_pointer.get(_key(name)) if zone is not None else None
            if zone is not None and holders:
                primary = next(reversed(holders.values()))
                return f"{primary}.{zone.name}" if primary else None
        return None


def _key(name: str) -> str:
    return name.lower()


def _readings(name: str) -> Iterator[tuple[str, str]]:
    yield name, ""
    plain = name
    while "." in plain:
        plain, _, _ = plain.rpartition(".")
        yield plain, name[len(plain) + 1 :]


def _pointers(endpoint: NamedEndpoint) -> list[str]:
    return [ip_address(address).reverse_pointer for address in (endpoint.address, endpoint.address6) if address]

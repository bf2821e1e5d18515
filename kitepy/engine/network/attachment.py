"""What the engine holds for one container's network: its sandbox, its endpoints and its published ports."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from kitepy.engine.kernel.conntrack import ConntrackSocket, forget_flows
from kitepy.engine.model.network import Endpoint, PublishedPort
from kitepy.engine.network.bridge import Carrier
from kitepy.engine.network.ports import Reservation
from kitepy.engine.network.relay_process import RelayProcess, key_of
from kitepy.engine.network.rules import MapElement, port_elements, relay_target
from kitepy.engine.network.ruleset import RuleSet
from kitepy.engine.network.sandbox import Sandbox


@dataclass
class Attachment:
    """An endpoint and the network it is in; ``index`` is its interface's inside, 0 while unknown."""

    endpoint: Endpoint
    carrier: Carrier
    options: tuple[tuple[str, str], ...] = ()
    index: int = 0
    link_local: tuple[IPv4Address | IPv6Address, ...] = ()
    """Addresses that its interface has besides the network's."""

    def leads_out(self, version: int) -> bool:
        """Whether a default route of that family can go over it."""
        endpoint = self.endpoint
        address, gateway = (endpoint.address, endpoint.gateway) if version == 4 else (endpoint.address6, endpoint.gateway6)
        return bool(gateway or (address and self.carrier.leads_out_itself))

    def option(self, key: str) -> str:
        """A driver option that came with the request."""
        return dict(self.options).get(key, "")


@dataclass
class Publication:
    """Ports of a container and where they lead now."""

    ports: tuple[PublishedPort, ...] = ()
    reservations: list[Reservation] = field(default_factory=list)
    """What holds the ports; one that somebody took while no engine ran is served by rules alone."""
    endpoint: Endpoint | None = None

    @property
    def elements(self) -> list[MapElement]:
        """The entries of the port maps."""
        if self.endpoint is None:
            return []
        return port_elements(self.endpoint.address, self.ports, self.endpoint.address6)

    def start(self, endpoint: Endpoint, rules: RuleSet | None, relays: RelayProcess, served: Collection[str] = ()) -> None:
        """Lead the ports to an endpoint. Keys that are ``served`` have a relay already, whose connections go on.

        Blocks. Raises OSError.
        """
        self.endpoint = endpoint
        if rules is not None and self.ports:
            rules.publish(self.elements)
        relayed = [
            (reservation.port, reservation.socket, (target, reservation.port.container_port))
            for reservation in self.reservations
            if reservation.socket is not None
            and (target := relay_target(reservation.port, endpoint.address, endpoint.address6))
            and key_of(reservation.port) not in served
        ]
        relays.serve_all(relayed)

    def stop(self, rules: RuleSet | None, relays: RelayProcess) -> list[OSError]:
        """Lead them nowhere; the ports stay ours. Blocks. Idempotent. Gives what went wrong, as the rest is done all the same."""
        failures: list[OSError] = []
        endpoint = self.endpoint
        if endpoint is None or not self.ports:
            return failures
        keys = [key_of(reservation.port) for reservation in self.reservations if reservation.socket is not None]
        try:
            relays.drop(keys)
        except OSError as error:
            failures.append(error)
        try:
            if rules is not None:
                rules.withdraw(self.elements)
            # Of UDP they would go on to whoever has the address next; of TCP the ended ones, which are kept for minutes, would
            # have the next container's connections translated to other source ports, some of which it still refuses.
            if endpoint.address:
                with ConntrackSocket() as conntrack:
                    conntrack.execute([forget_flows(IPv4Address(endpoint.address))])
        except OSError as error:
            failures.append(error)
        self.endpoint = None
        return failures


@dataclass
class Place:
    """A container's whole network; ``sandbox`` is None until there is one."""

    container_id: str
    name: str
    sandbox: Sandbox | None = None
    attachments: list[Attachment] = field(default_factory=list)
    publication: Publication = field(default_factory=Publication)
    gateways: tuple[Attachment | None, Attachment | None] = (None, None)
    """Over which endpoint the default routes lead, by family."""
    upstream: tuple[str, ...] = ()
    keeps_single_labels: bool = False
    has_names: bool = False
    """Whether the name service answers it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while endpoints come and go."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """In the order in which the networks were joined."""
        return tuple(attachment.endpoint for attachment in self.attachments)

    def attachment_in(self, network_id: str) -> Attachment | None:
        """The one in a network."""
        return next((found for found in self.attachments if found.endpoint.network_id == network_id), None)

    def note_ports(self) -> None:
        """The ports are on the endpoint that carries them, and on no other."""
        carrying = self.publication.endpoint
        for attachment in self.attachments:
            mine = carrying is not None and attachment.endpoint.endpoint_id == carrying.endpoint_id
            attachment.endpoint = replace(attachment.endpoint, ports=self.publication.ports if mine else ())


def gateway_order(attachments: Iterable[Attachment]) -> list[Attachment]:
    """dockerd's order of a container's networks.

    The highest priority first, then networks that aren't internal, those that lead out over more families, the first name.
    """

    def order(attachment: Attachment) -> tuple[int, bool, int, str]:
        endpoint = attachment.endpoint
        families = attachment.leads_out(4) + 2 * attachment.leads_out(6)
        return -endpoint.gateway_priority, attachment.carrier.record.internal, -families, endpoint.network

    return sorted(attachments, key=order)


def choose_gateways(attachments: Iterable[Attachment]) -> tuple[Attachment | None, Attachment | None]:
    """Which endpoints carry the default routes of IPv4 and IPv6."""
    ordered = gateway_order(attachments)
    return (
        next((attachment for attachment in ordered if attachment.leads_out(4)), None),
        next((attachment for attachment in ordered if attachment.leads_out(6)), None),
    )


def free_interface_name(prefix: str, taken: Collection[str]) -> str:
    """``eth0`` and so on: the first that isn't taken."""
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def interface_parameters(text: str, interface: str) -> Sequence[tuple[str, str]]:
    """The kernel's parameters for one interface, as in ``net.ipv4.conf.IFNAME.log_martians=1,…``: paths and values."""
    found = []
    for entry in filter(None, text.split(",")):
        key, _, value = entry.partition("=")
        words = [interface if word == "IFNAME" else word for word in key.strip().split(".")]
        found.append(("/".join(words), value.strip()))
    return found

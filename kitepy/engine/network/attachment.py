"""What the engine holds for one endpoint: sandbox, host ports, rules and relays; their order is left to the bridge."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kitepy.engine.kernel.conntrack import ConntrackSocket, forget_flows
from kitepy.engine.model.network import Endpoint
from kitepy.engine.network.ports import Reservation
from kitepy.engine.network.relay_process import RelayProcess, key_of
from kitepy.engine.network.rules import MapElement, port_elements
from kitepy.engine.network.ruleset import RuleSet
from kitepy.engine.network.sandbox import Sandbox


@dataclass
class Attachment:
    """``sandbox`` is None until there is one."""

    endpoint: Endpoint
    sandbox: Sandbox | None = None
    reservations: list[Reservation] = field(default_factory=list)

    @property
    def elements(self) -> list[MapElement]:
        """The entries of the port maps."""
        return port_elements(self.endpoint.address, self.endpoint.ports)

    def publish_rules(self, rules: RuleSet) -> None:
        """Blocks for one transaction."""
        rules.publish(self.elements)

    def withdraw_rules(self, rules: RuleSet) -> None:
        """Blocks for one transaction. Raises OSError."""
        rules.withdraw(self.elements)
        if any(port.protocol == "udp" for port in self.endpoint.ports):
            with ConntrackSocket() as conntrack:
                conntrack.execute([forget_flows(IPv4Address(self.endpoint.address))])

    def start_relays(self, relays: RelayProcess, served: Collection[str] = ()) -> None:
        """Has the sockets of the published ports served, but for keys that are ``served`` already, whose connections go on.

        Blocks for the relay process. Raises OSError.
        """
        for reservation in self.reservations:
            if reservation.socket is not None and key_of(reservation.port) not in served:
                relays.serve(reservation.port, reservation.socket, (self.endpoint.address, reservation.port.container_port))

    def stop_relays(self, relays: RelayProcess) -> None:
        """Drops what is connected. Blocks for the relay process. Idempotent. Raises OSError."""
        keys = [key_of(reservation.port) for reservation in self.reservations if reservation.socket is not None]
        if keys:
            relays.drop(keys)

"""Published ports of containers: held on the host, led to the endpoint with the default route, and given back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.network import PortRequest
from kitepy.engine.network.attachment import Attachment, Place
from kitepy.engine.network.kernel_work import KernelWork
from kitepy.engine.network.ports import BindFailed, PortReservations, PortTarget
from kitepy.engine.network.relay_process import RelayProcess, key_of
from kitepy.engine.network.rule_table import RuleTable
from kitepy.engine.network.rules import GatewayMode, MapElement

logger = logging.getLogger(__name__)


def carrying(place: Place) -> Attachment | None:
    """The endpoint that published ports lead to, if any can."""
    main = place.gateways[0] or place.gateways[1]
    return main if main is not None and main.carrier.takes_ports else None


class Publisher:
    """Belongs to one event loop."""

    def __init__(self, ports: PortReservations, relays: RelayProcess, table: RuleTable, work: KernelWork) -> None:
        self._ports = ports
        self._relays = relays
        self._table = table
        self._work = work
        self._kept: dict[str, socket.socket] = {}
        """Sockets that a former engine's relays serve and that nobody has claimed yet."""

    def reserve(self, place: Place, requests: Sequence[PortRequest]) -> None:
        """Hold the host ports, if the container can be reached from outside at all. Raises EngineError."""
        main = carrying(place)
        if main is None or place.publication.ports:
            return
        binding = main.carrier.binding
        if binding:
            requests = [replace(request, host_ip=request.host_ip or binding) for request in requests]
        endpoint, context = main.endpoint, main.carrier.context
        target = PortTarget(
            owner=place.name,
            address=endpoint.address,
            address6=endpoint.address6,
            routed4=context is not None and context.mode(4) is GatewayMode.ROUTED,
            routed6=context is not None and context.mode(6) is GatewayMode.ROUTED,
        )
        try:
            place.publication.reservations = reservations = self._ports.reserve(requests, target)
        except BindFailed as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {place.name} ({endpoint.endpoint_id}): {error}"
            ) from error
        place.publication.ports = tuple(reservation.port for reservation in reservations)

    async def publish(self, place: Place, served: Collection[str] = ()) -> None:
        """Lead the ports to where they belong now; ``served`` are keys of relays that go on. Raises SystemFailure."""
        main, publication, rules = carrying(place), place.publication, self._table.rules
        if main is not None and publication.ports:
            endpoint = main.endpoint
            try:
                await self._work.run(lambda: publication.start(endpoint, rules, self._relays, served))
            except OSError as error:
                raise SystemFailure(f"the ports of container {short_id(place.container_id)} can't be served: {error}") from error
        place.note_ports()

    async def withdraw(self, place: Place) -> None:
        """Lead the ports nowhere; they stay held."""
        publication, rules = place.publication, self._table.rules
        if publication.ports:
            for error in await self._work.run(lambda: publication.stop(rules, self._relays)):
                logger.warning("withdrawing the ports of %s: %s", short_id(place.container_id), error)

    def release(self, place: Place) -> None:
        """Give the host ports back."""
        for reservation in place.publication.reservations:
            self._ports.release(reservation)
        place.publication.reservations, place.publication.ports = [], ()

    async def follow(self, place: Place, requests: Sequence[PortRequest]) -> None:
        """See to it that ports go over the endpoint with the default route, if there is one. Raises EngineError."""
        main, current = carrying(place), place.publication.endpoint
        if current is not None and (main is None or main.endpoint.endpoint_id != current.endpoint_id):
            await self.withdraw(place)
        if main is None:
            self.release(place)
        elif place.publication.endpoint is None:
            self.reserve(place, requests)
            await self.publish(place)
        place.note_ports()

    # --- after a restart of the engine ---

    async def take_over(self) -> None:
        """The relays of a former engine go on."""
        try:
            self._kept = await self._work.run(self._relays.held)
        except OSError as error:
            logger.warning("the former engine's relays are out of reach: %s", error)

    async def adopt(self, place: Place) -> None:
        """Claim the ports that a container's endpoints have. One that somebody took meanwhile is served by the rules."""
        ports = tuple(port for attachment in place.attachments for port in attachment.endpoint.ports)
        place.publication.ports = ports
        served = {key_of(port) for port in ports} & self._kept.keys()
        for port in ports:
            try:
                place.publication.reservations.append(self._ports.restore(port, self._kept.pop(key_of(port), None), place.name))
            except BindFailed as error:
                logger.warning("container %s: %s", place.name, error)
        await self.publish(place, served)

    async def finish_adoption(self, places: Iterable[Place]) -> None:
        """Exactly the ports of these containers are published. Raises NftablesError."""
        elements: list[MapElement] = [element for place in places for element in place.publication.elements]
        await self._table.replace(elements)
        ownerless, self._kept = self._kept, {}
        for bound in ownerless.values():
            bound.close()
        if ownerless:
            await self._work.run(lambda: self._relays.drop(ownerless))

    async def close(self, *, keep: bool) -> None:
        """Leave the relays to running containers, or end them."""
        await self._work.run(self._relays.close if keep else self._relays.end)

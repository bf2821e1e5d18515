"""Tells the resolver process which containers there are on user-defined networks, and what each of them sees.

A container without a name service is better than one that doesn't start: what goes wrong here is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kitepy.engine.network.attachment import Attachment, Place, gateway_order
from kitepy.engine.network.resolver_names import NamedEndpoint, View
from kitepy.engine.network.resolver_process import ResolverProcess

logger = logging.getLogger(__name__)


class NameService:
    """Methods block for moments and run on threads. ``process`` is None where names aren't served at all."""

    def __init__(self, process: ResolverProcess | None, default_id: str) -> None:
        """Containers of the network ``default_id`` don't find each other by name."""
        self._process = process
        self._default_id = default_id
        self.problem = ""
        """Why names aren't served; empty while they are."""

    def _named(self, place: Place) -> list[Attachment]:
        return [found for found in gateway_order(place.attachments) if found.endpoint.network_id != self._default_id]

    def concerns(self, place: Place) -> bool:
        """Whether a container is on any network that serves names."""
        return self._process is not None and bool(self._named(place))

    def _view(self, place: Place) -> View:
        named = self._named(place)
        return View(
            networks=tuple(attachment.endpoint.network_id for attachment in named),
            links=tuple(
                (attachment.endpoint.network_id, alias, target)
                for attachment in named
                for alias, target in attachment.endpoint.links
            ),
            upstream=place.upstream,
            internal=all(attachment.carrier.record.internal for attachment in place.attachments),
            keeps_single_labels=place.keeps_single_labels,
        )

    def warm(self) -> None:
        """Start the process before a container waits for it."""
        if self._process is not None:
            try:
                self._process.warm()
            except OSError as error:
                self._complain(error)

    def follow(self, place: Place) -> None:
        """Names and view of a container, as its endpoints are now. Idempotent."""
        if self._process is None or place.sandbox is None or not (self.concerns(place) or place.has_names):
            return
        try:
            self._process.announce(
                NamedEndpoint(
                    endpoint_id=endpoint.endpoint_id,
                    network_id=endpoint.network_id,
                    network=endpoint.network,
                    names=endpoint.names,
                    address=endpoint.address,
                    address6=endpoint.address6,
                )
                for endpoint in (attachment.endpoint for attachment in self._named(place))
            )
            if place.has_names:
                self._process.view(place.container_id, self._view(place))
            else:
                sockets, place.sandbox.resolver = place.sandbox.resolver, None
                self._process.serve(place.container_id, place.sandbox.netns_fd, self._view(place), sockets)
                place.has_names = True
        except OSError as error:
            self._complain(error)

    def withdraw(self, attachments: Iterable[Attachment]) -> None:
        """Endpoints that are about to go: nobody finds them any more. Idempotent."""
        if self._process is not None:
            try:
                self._process.withdraw([attachment.endpoint.endpoint_id for attachment in attachments])
            except OSError as error:
                self._complain(error)

    def leave(self, place: Place) -> None:
        """A container ends. Idempotent."""
        if self._process is None:
            return
        self.withdraw(place.attachments)
        try:
            if place.has_names:
                place.has_names = False
                self._process.drop(place.container_id)
        except OSError as error:
            self._complain(error)

    def take_over(self) -> None:
        """The process of a former engine goes on, if there is one."""
        if self._process is not None:
            try:
                self._process.held()
            except OSError as error:
                self._complain(error)

    def finish_adoption(self) -> None:
        """All containers have been told of."""
        if self._process is not None:
            try:
                self._process.finish_adoption()
            except OSError as error:
                self._complain(error)

    def close(self, *, keep: bool) -> None:
        """Leave the process to the containers that go on, or end it."""
        if self._process is not None:
            if keep:
                self._process.close()
            else:
                self._process.end()

    def _complain(self, error: OSError) -> None:
        self.problem = f"the name service of user-defined networks doesn't work: {error.strerror or error}"
        logger.warning("%s", self.problem)

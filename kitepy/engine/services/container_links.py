"""Keeps links between containers of the default bridge true while either end starts, stops, is renamed or removed.

What a link consists of is decided in ``links``; here are /etc/hosts of running containers, and what the network lets pass.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kitepy.engine.model.container import ContainerRecord, Link
from kitepy.engine.model.errors import EngineError
from kitepy.engine.model.ids import short_id
from kitepy.engine.network.networks import Networks
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.links import (
    check_links,
    default_endpoint,
    followed_hosts,
    link_entries,
    link_variables,
    linked_ports,
)

logger = logging.getLogger(__name__)

_LARGEST_HOSTS = 1 << 20
"""A container may write to its file; a larger one is left as it is."""


class ContainerLinks:
    """Belongs to one event loop."""

    def __init__(self, index: ContainerIndex, networks: Networks, directory: Callable[[str], Path]) -> None:
        """``directory`` is where a container's hosts file lies, by its id."""
        self._index = index
        self._networks = networks
        self._directory = directory

    # --- at the start of a linking container ---

    def check(self, record: ContainerRecord) -> None:
        """Whether a container can be started. Raises SystemFailure when one that it is linked to doesn't run."""
        if _uses_links(record):
            check_links(record, self._index.get)

    def variables(self, record: ContainerRecord) -> list[str]:
        """What the environment tells of linked containers."""
        return link_variables(record.name, self._targets(record)) if record.links else []

    def entries(self, record: ContainerRecord) -> list[str]:
        """Lines of /etc/hosts for linked containers."""
        return link_entries(self._targets(record)) if record.links else []

    def _targets(self, record: ContainerRecord, changed: ContainerRecord | None = None) -> list[tuple[Link, ContainerRecord]]:
        """The linked containers that there are; ``changed`` is newer than what is stored."""
        if not _uses_links(record):
            return []
        found = []
        for link in record.links:
            target = changed if changed is not None and changed.id == link.target_id else self._index.get(link.target_id)
            if target is not None:
                found.append((link, target))
        return found

    # --- what follows a change ---

    async def joined(self, record: ContainerRecord) -> None:
        """A container has addresses, which need not be those it had before; the record is newer than the stored one."""
        if record.links:
            await self._allow(record)
        for parent in self._running_parents(record):
            self._rewrite(parent, record.id, record)
            await self._allow(parent, record)

    async def left(self, record: ContainerRecord) -> None:
        """A container has no addresses any more: who gets them next is nobody's link. Call it before they are given back."""
        gone = replace(record, endpoints=())
        if record.links:
            await self._set(record, gone)
        for parent in self._running_parents(record):
            await self._allow(parent, gone)

    def removed(self, record: ContainerRecord) -> None:
        """A container is no more. Links to it stay, and keep what they belong to from starting, as with Docker."""
        for parent in self._running_parents(record):
            self._rewrite(parent, record.id, None)

    def renamed(self, record: ContainerRecord) -> None:
        """A container has another name, under which it is shown from now on."""
        for parent in self._index.linking(record.id):
            links = [replace(link, target_name=record.name) if link.target_id == record.id else link for link in parent.links]
            self._index.save(replace(parent, links=tuple(links)))
        for parent in self._running_parents(record):
            self._rewrite(parent, record.id, record)

    async def remove_link(self, parent: ContainerRecord, link: Link) -> None:
        """Undo one link."""
        kept = replace(parent, links=tuple(other for other in parent.links if other != link))
        self._index.save(kept)
        if default_endpoint(kept) is not None:
            self._write_hosts(kept, [(link, None)])
            await self._set(kept)

    async def adopted(self) -> None:
        """Another engine started the containers that run: let pass what it let pass."""
        for record in self._index:
            if record.links and default_endpoint(record) is not None:
                await self._allow(record)

    def _running_parents(self, record: ContainerRecord) -> list[ContainerRecord]:
        return [parent for parent in self._index.linking(record.id) if default_endpoint(parent) is not None]

    def _rewrite(self, parent: ContainerRecord, target_id: str, target: ContainerRecord | None) -> None:
        self._write_hosts(parent, [(link, target) for link in parent.links if link.target_id == target_id])

    def _write_hosts(self, record: ContainerRecord, changes: list[tuple[Link, ContainerRecord | None]]) -> None:
        """In place, since the file is mounted; a failure is the linking container's, not that of the one that changed."""
        path = self._directory(record.id) / "hosts"
        try:
            with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as stream:
                content = stream.read(_LARGEST_HOSTS + 1)
                if len(content) > _LARGEST_HOSTS:
                    raise OSError(f"{path} is larger than {_LARGEST_HOSTS} bytes")
                text = content.decode(errors="surrogateescape")
                if (after := followed_hosts(text, changes)) != text:
                    stream.seek(0)
                    stream.truncate()
                    stream.write(after.encode(errors="surrogateescape"))
        except OSError as error:
            logger.warning("/etc/hosts of container %s can't follow its links: %s", short_id(record.id), error)

    async def _allow(self, parent: ContainerRecord, changed: ContainerRecord | None = None) -> None:
        try:
            await self._set(parent, changed)
        except EngineError as error:
            if changed is None:
                raise
            logger.warning("links of container %s: %s", short_id(parent.id), error)

    async def _set(self, record: ContainerRecord, changed: ContainerRecord | None = None) -> None:
        """Tell the network all that a container may reach by its links."""
        own = default_endpoint(changed if changed is not None and changed.id == record.id else record)
        await self._networks.set_links(record.id, linked_ports(own, self._targets(record, changed)))


def _uses_links(record: ContainerRecord) -> bool:
    """Links mean nothing outside the default network."""
    return bool(record.links) and "bridge" in record.networks

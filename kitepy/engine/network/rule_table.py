"""The table of rules of all networks while the engine runs: opened, watched, and complained of where the host has none."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from kitepy.engine.kernel.nftables import Nftables, NftablesError, NftablesMissing
from kitepy.engine.model.errors import Unsupported
from kitepy.engine.model.network import LinkedPort
from kitepy.engine.network.kernel_work import KernelWork
from kitepy.engine.network.link_rules import LinkException
from kitepy.engine.network.naming import KernelNames
from kitepy.engine.network.rule_watch import RuleKeeper
from kitepy.engine.network.rules import MapElement, RuleContext
from kitepy.engine.network.ruleset import RuleSet

logger = logging.getLogger(__name__)

_WITHOUT_RULES = "ports are relayed in user space and containers reach no other network"


class RuleTable:
    """Belongs to one event loop; ``rules`` is None where there are none."""

    def __init__(self, names: KernelNames, work: KernelWork) -> None:
        self._names = names
        self._work = work
        self.rules: RuleSet | None = None
        self._keeper: RuleKeeper | None = None
        self._obstacles: list[str] = []
        self._problem = ""
        self._links: dict[str, frozenset[LinkException]] = {}

    @property
    def warnings(self) -> list[str]:
        """What this host lacks, or what stands in the way."""
        return [*filter(None, [self._problem]), *self._obstacles]

    async def open(self, contexts: Iterable[RuleContext | None]) -> None:
        """Rules of a former engine stay until ``replace``. What the host lacks becomes a warning."""
        found = _present(contexts)

        def work() -> RuleSet:
            rules = RuleSet(Nftables(), self._names.table, self._names.veth_prefix)
            rules.set_networks(found)
            self._obstacles = rules.obstacles()
            return rules

        try:
            self.rules = rules = await self._work.run(work)
        except NftablesMissing as error:
            self._problem = f"{error.strerror}; until then {_WITHOUT_RULES}"
            return
        except NftablesError as error:
            self._problem = f"{error.strerror}: {_WITHOUT_RULES}"
            return
        try:
            self._keeper = RuleKeeper(rules, self._work.run, self._look_for_obstacles)
        except OSError as error:
            logger.warning("other programs' changes of the rules go unnoticed: %s", error.strerror)

    def _look_for_obstacles(self) -> None:
        if self.rules is not None:
            self._obstacles = self.rules.obstacles()

    async def set_networks(self, contexts: Iterable[RuleContext | None]) -> None:
        """These are the networks now. Raises NftablesError."""
        rules, found = self.rules, _present(contexts)
        if rules is not None:
            await self._work.run(lambda: rules.set_networks(found))
            await self._work.run(self._look_for_obstacles)

    async def replace(self, elements: Sequence[MapElement]) -> None:
        """Exactly these ports are published. Raises NftablesError."""
        rules = self.rules
        if rules is not None:
            await self._work.run(lambda: rules.replace(elements))

    async def set_links(self, container_id: str, ports: Sequence[LinkedPort]) -> None:
        """All that a container may reach by its links on the default bridge, instead of what it might before. Idempotent.

        Raises Unsupported when this host can't let it through.
        """
        if not ports and container_id not in self._links:
            return
        links = frozenset(
            LinkException(
                bridge=self._names.bridge,
                parent_interface=port.source.host_interface,
                parent_address=port.source.address,
                child_interface=port.target.host_interface,
                child_address=port.target.address,
                protocol=port.protocol,
                port=port.port,
            )
            for port in ports
            if port.source.address and port.target.address
        )
        gone, rules = self._links.pop(container_id, frozenset()) - links, self.rules
        if links:
            self._links[container_id] = links
        if rules is None:
            if links:
                raise Unsupported("links between containers need rules where containers may not talk to each other (--icc=false)")
            return

        def change() -> None:
            rules.forbid_link(gone)
            rules.allow_link(links)

        try:
            await self._work.run(change)
        except OSError as error:
            words = "links between containers can't be let through, since this kernel can't filter on bridges"
            raise Unsupported(f"{words}: {error.strerror}") from error

    async def close(self, *, keep: bool) -> None:
        """Leave the rules in place, or remove them."""
        if self._keeper is not None:
            self._keeper.close()
        rules, self.rules = self.rules, None
        if rules is not None:
            if not keep:
                await self._work.run(rules.remove)
            rules.close()


def _present(contexts: Iterable[RuleContext | None]) -> list[RuleContext]:
    return [context for context in contexts if context is not None]

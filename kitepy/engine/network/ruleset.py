"""The engine's tables of rules in the kernel, with a memory of what is in them so that they can be put back.

Other programs flush rules (``nft flush ruleset``, a firewall's reload). A change that fails because the table isn't as it
was left is made by replacing the whole table; ``rule_watch`` notices the rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

from kitepy.engine.kernel.legacy_iptables import forward_policy
from kitepy.engine.kernel.netlink import RouteSocket, isolate_port
from kitepy.engine.kernel.nftables import Nftables, NftablesError
from kitepy.engine.network import link_rules
from kitepy.engine.network.firewall import forward_obstacles
from kitepy.engine.network.link_rules import LinkException, bridged_entries, routed_entries
from kitepy.engine.network.rules import (
    Families,
    MapElement,
    RuleContext,
    add_elements,
    change_elements,
    delete_elements,
    delete_table,
    open_entries,
    port_entries,
    replace_table,
)

logger = logging.getLogger(__name__)


def _added(before: Mapping[str, set[str]], after: Mapping[str, set[str]]) -> dict[str, set[str]]:
    return {name: entries - before.get(name, set()) for name, entries in after.items()}


def _targets(links: Iterable[LinkException]) -> set[str]:
    return {link.child_interface for link in links}


class RuleSet:
    """Safe to use from several threads; every method blocks for one transaction and raises NftablesError."""

    def __init__(self, nftables: Nftables, table: str, port_prefix: str) -> None:
        """``port_prefix`` is what the names of the bridges' ports begin with, and nothing else's."""
        self._nftables = nftables
        self.table = table
        self._port_prefix = port_prefix
        self._families = Families.BOTH_IN_ONE
        self._contexts: tuple[RuleContext, ...] = ()
        self._elements: set[MapElement] = set()
        self._links: set[LinkException] = set()
        self._in_place = False
        self._lock = threading.Lock()

    def set_networks(self, contexts: Iterable[RuleContext]) -> None:
        """Makes the table one for exactly these networks, and leaves ports and links as they are.

        The table of a former engine stays untouched until ``replace`` tells what is in it.
        """
        with self._lock:
            self._contexts = tuple(contexts)
            if self._in_place or not self._has_table():
                self._replace(self._elements, self._links)

    def replace(self, elements: Iterable[MapElement], links: Iterable[LinkException] = ()) -> None:
        """Makes the table hold exactly these published ports and links, whatever was there before."""
        with self._lock:
            self._replace(set(elements), set(links))

    def restore(self) -> None:
        """Puts the table back as it was left, if it ever was there."""
        with self._lock:
            if self._in_place:
                self._replace(self._elements, self._links)

    def publish(self, elements: Iterable[MapElement]) -> None:
        """Adds published ports."""
        self._change(added=set(elements), removed=set())

    def withdraw(self, elements: Iterable[MapElement]) -> None:
        """Removes published ports; unknown ones are ignored."""
        self._change(added=set(), removed=set(elements))

    def allow_link(self, links: Iterable[LinkException]) -> None:
        """Lets linked containers pass on bridges whose containers may not talk to each other, and on no other.

        Raises OSError when the kernel can't filter on bridges, and lets nothing through then.
        """
        with self._lock:
            closed = {context.bridge for context in self._contexts if not context.icc}
            self._change_links(self._links | {link for link in links if link.bridge in closed})

    def forbid_link(self, links: Iterable[LinkException]) -> None:
        """The opposite; unknown ones are ignored."""
        with self._lock:
            self._change_links(self._links - set(links))

    def obstacles(self) -> list[str]:
        """What other firewalls keep from passing, a sentence each."""
        with self._lock:
            contexts = [context for context in self._contexts if not context.internal]
            return forward_obstacles(
                self._nftables.query("list chains"),
                {version: forward_policy(version) for version in (4, 6)},
                [context.bridge for context in contexts],
                ipv6=any(subnet.version == 6 for context in contexts for subnet in context.subnets),
            )

    def remove(self) -> None:
        """Removes the table."""
        with self._lock:
            families = ["inet", "ip", *([] if self._families is Families.IPV4_ONLY else ["ip6"])]
            if self._links:
                families.append(link_rules.FAMILY)
            self._nftables.apply(delete_table(self.table, families))
            self._elements, self._links, self._in_place = set(), set(), False

    def close(self) -> None:
        """Leaves the rules in place and the library alone."""
        self._nftables.close()

    def _has_table(self) -> bool:
        return any(self._nftables.has_table(family, self.table) for family in ("inet", "ip"))

    def _replace(self, elements: set[MapElement], links: set[LinkException]) -> None:
        entries: dict[str, Iterable[str]] = {
            **port_entries(sorted(elements)),
            **open_entries(self._contexts, elements),
            **routed_entries(links),
        }
        order = list(Families)
        for families in order[order.index(self._families) :]:
            try:
                self._nftables.apply(replace_table(self.table, families, self._contexts, entries))
            except NftablesError as error:
                if families is order[-1]:
                    raise
                logger.info("rules in tables of the family %s: %s", "/".join(families.value), error.strerror)
            else:
                self._families = families
                break
        if links or self._links:
            self._nftables.apply(link_rules.replace_table(self.table, self._port_prefix, bridged_entries(links)))
        elif not self._in_place and self._nftables.has_table(link_rules.FAMILY, self.table):
            self._nftables.apply(delete_table(self.table, [link_rules.FAMILY]))
        self._isolate(_targets(self._links) - _targets(links), isolated=True)
        self._isolate(_targets(links), isolated=False)
        self._elements, self._links, self._in_place = elements, links, True

    def _change(self, added: set[MapElement], removed: set[MapElement]) -> None:
        with self._lock:
            added, removed = added - self._elements, removed & self._elements
            wanted = (self._elements | added) - removed
            opened_before, opened = open_entries(self._contexts, self._elements), open_entries(self._contexts, wanted)
            script = (
                add_elements(self.table, self._families, sorted(added))
                + delete_elements(self.table, self._families, sorted(removed))
                + change_elements("add", self.table, self._families, _added(opened_before, opened))
                + change_elements("delete", self.table, self._families, _added(opened, opened_before))
            )
            if script:
                try:
                    self._nftables.apply(script)
                except NftablesError as error:
                    logger.warning("rebuilding the rules of table %s, which somebody changed: %s", self.table, error.strerror)
                    self._replace(wanted, self._links)
            self._elements = wanted

    def _change_links(self, wanted: set[LinkException]) -> None:
        before = self._links
        if wanted == before:
            return
        # A target's port is opened when its filter is there, and closed before it goes.
        self._isolate(_targets(before) - _targets(wanted), isolated=True)
        bridged_before, bridged = bridged_entries(before), bridged_entries(wanted)
        routed_before, routed = routed_entries(before), routed_entries(wanted)
        script = (
            link_rules.change_elements("add", self.table, _added(bridged_before, bridged))
            + link_rules.change_elements("delete", self.table, _added(bridged, bridged_before))
            + change_elements("add", self.table, self._families, _added(routed_before, routed))
            + change_elements("delete", self.table, self._families, _added(routed, routed_before))
        )
        if not before:
            script = link_rules.replace_table(self.table, self._port_prefix, {}) + script
        if not wanted:
            script += delete_table(self.table, [link_rules.FAMILY])
        try:
            self._nftables.apply(script)
        except NftablesError as error:
            logger.warning("rebuilding the rules of table %s: %s", self.table, error.strerror)
            self._replace(self._elements, wanted)
        else:
            self._links = wanted
            self._isolate(_targets(wanted) - _targets(before), isolated=False)

    @staticmethod
    def _isolate(interfaces: set[str], *, isolated: bool) -> None:
        if not interfaces:
            return
        with RouteSocket() as host:
            for name in sorted(interfaces):
                link = host.link(name)
                if link is not None:  # else the container is gone, and its port with it
                    host.execute([isolate_port(link.index, isolated=isolated)])

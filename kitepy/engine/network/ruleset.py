"""A network's table of rules in the kernel, with a memory of what is in it so that it can be put back.

Other programs flush rules (``nft flush ruleset``, a firewall's reload). A change that fails because the table isn't as it
was left is made by replacing the whole table, so the next attachment repairs what was lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from kitepy.engine.kernel.nftables import Nftables, NftablesError
from kitepy.engine.network.rules import MapElement, RuleContext, add_elements, delete_elements, delete_table, replace_table

logger = logging.getLogger(__name__)


class RuleSet:
    """Safe to use from several threads; every method blocks for one transaction and raises NftablesError."""

    def __init__(self, nftables: Nftables, context: RuleContext) -> None:
        self._nftables = nftables
        self._context = context
        self._elements: set[MapElement] = set()
        self._lock = threading.Lock()

    def replace(self, elements: Iterable[MapElement]) -> None:
        """Makes the table hold exactly these published ports, whatever was there before."""
        with self._lock:
            self._replace(set(elements))

    def _replace(self, elements: set[MapElement]) -> None:
        self._nftables.apply(replace_table(self._context, sorted(elements)))
        self._elements = elements

    def publish(self, elements: Iterable[MapElement]) -> None:
        """Adds published ports."""
        self._change(added=set(elements), removed=set())

    def withdraw(self, elements: Iterable[MapElement]) -> None:
        """Removes published ports; unknown ones are ignored."""
        self._change(added=set(), removed=set(elements))

    def _change(self, added: set[MapElement], removed: set[MapElement]) -> None:
        with self._lock:
            removed &= self._elements
            wanted = (self._elements | added) - removed
            table = self._context.table
            script = add_elements(table, sorted(added)) + delete_elements(table, sorted(removed))
            if not script:
                return
            try:
                self._nftables.apply(script)
            except NftablesError as error:
                logger.warning("rebuilding the rules of table %s, which somebody changed: %s", table, error.strerror)
                self._replace(wanted)
            self._elements = wanted

    def remove(self) -> None:
        """Removes the table."""
        with self._lock:
            self._nftables.apply(delete_table(self._context.table))
            self._elements = set()

    def close(self) -> None:
        """Leaves the rules in place and the library alone."""
        self._nftables.close()

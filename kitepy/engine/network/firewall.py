"""Finds foreign firewalls that drop what containers send: a table of ours can't accept what another table drops.

Looking is all that is done here: changing somebody else's rules is left to their owner, who is told the command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_FAMILIES = frozenset({"ip", "inet"})


def forward_obstacles(objects: Iterable[dict[str, Any]], bridge: str) -> list[str]:
    """One sentence for each chain that drops forwarded packets by default; the objects are those of ``nft -j list chains``."""
    found = []
    for item in objects:
        chain = item.get("chain", {})
        if chain.get("hook") != "forward" or chain.get("policy") != "drop" or chain.get("family") not in _FAMILIES:
            continue
        name = f"{chain['family']} {chain['table']} {chain['name']}"
        found.append(
            f"the firewall chain {name!r} drops forwarded packets by default, which cuts containers off: allow them with "
            f"'nft insert rule {name} iifname {bridge} accept' and 'nft insert rule {name} oifname {bridge} accept'"
        )
    return found

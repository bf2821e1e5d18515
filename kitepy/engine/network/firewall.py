"""Finds foreign firewalls that drop what containers send: a table of ours can't accept what another table drops.

Looking is all that is done here: changing somebody else's rules is left to their owner, who is told the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_FAMILIES = frozenset({"ip", "ip6", "inet"})


def forward_obstacles(
    objects: Iterable[dict[str, Any]], legacy: Mapping[int, str], bridges: Iterable[str], *, ipv6: bool = False
) -> list[str]:
    """One sentence for each chain that drops forwarded packets by default.

    ``objects`` are those of ``nft -j list chains``, ``legacy`` the policies of the old iptables by IP version. What only
    concerns IPv6 matters when a network has it.
    """
    names = list(bridges)
    listed = names[0] if len(names) == 1 else f"{{ {', '.join(names)} }}"
    found = []
    for item in objects:
        chain = item.get("chain", {})
        if chain.get("hook") != "forward" or chain.get("policy") != "drop" or chain.get("family") not in _FAMILIES:
            continue
        if chain["family"] == "ip6" and not ipv6:
            continue
        name = f"{chain['family']} {chain['table']} {chain['name']}"
        found.append(_sentence(name, (f"nft insert rule {name} {side} {listed} accept" for side in ("iifname", "oifname"))))
    for version, program in ((4, "iptables-legacy"), (6, "ip6tables-legacy")):
        if legacy.get(version) == "drop" and (version == 4 or ipv6):
            commands = [f"{program} -I FORWARD {side} {name} -j ACCEPT" for name in names for side in ("-i", "-o")]
            found.append(_sentence(f"FORWARD of {program}", commands))
    return found


def _sentence(chain: str, commands: Iterable[str]) -> str:
    allowed = " and ".join(f"'{command}'" for command in commands)
    return (
        f"the firewall chain {chain!r} drops forwarded packets by default, which cuts containers off: allow them with {allowed}"
    )

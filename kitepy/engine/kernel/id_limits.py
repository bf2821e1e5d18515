"""Which owners files can have in a user namespace, and what to tell somebody whose image needs more of them."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.kernel.subordinate_ids import free_range, parse_entries
from kitepy.engine.kernel.user_namespaces import IdMap, own_gid_map, own_uid_map

_FILES = (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids"))


@dataclass(frozen=True)
class IdLimits:
    """The ids of one user namespace; ``more`` is the command that gives the user more, empty for a container's own."""

    uids: IdMap
    gids: IdMap
    more: str

    def problem(self, uid: int, gid: int) -> str | None:
        """What is wrong with this owner, for people; None when nothing is."""
        for kind, number, ids in (("uid", uid, self.uids), ("gid", gid, self.gids)):
            if ids.outside(number) is None:
                if not self.more:
                    return f"{kind} {number} does not exist in the container's user namespace, whose highest {kind} is {ids.last}"
                return (
                    f"{kind} {number} does not exist for an engine without root, whose highest {kind} is {ids.last}; "
                    f"to have more: {self.more}, then stop the containers and restart the engine"
                )
        return None


def own_id_limits() -> IdLimits | None:
    """The limits of this process's user namespace; None in the machine's first one, which has all ids.

    To be asked before the process gives up the host's root directory.
    """
    uids = own_uid_map()
    if uids.is_initial:
        return None
    return IdLimits(uids, own_gid_map(), _more_ids(uids.outside(0)))


def _more_ids(uid: int | None) -> str:
    try:
        user = pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        user = str(uid)
    options = []
    for file, option in _FILES:
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        # Enough for ids of a directory service, which images of companies are known to have.
        free = free_range(parse_entries(text), 1_000_000)
        options.append(f"{option} {free.first}-{free.end - 1}")
    return f"sudo usermod {' '.join(options)} {user}"

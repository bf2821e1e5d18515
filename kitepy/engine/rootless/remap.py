"""``--userns-remap``: from dockerd's words for a user and a group to the ids that /etc/subuid and /etc/subgid lend containers."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.kernel.subordinate_ids import IdRange, free_range, parse_entries, ranges_of
from kitepy.engine.kernel.user_namespaces import IdMap

DEFAULT_USER = "dockremap"
"""Whose ranges ``default`` means. The name alone counts: an account is not needed, and none is made."""
_MOST_RANGES = 340
"""How many the kernel takes, user_namespaces(7)."""


class RemapError(Exception):
    """The option can't be honoured; ``str(error)`` is for the person who set it, with the way out."""


@dataclass(frozen=True)
class Owner:
    """Whose subordinate ids: a name and, where there is an account, its number."""

    name: str
    number: int


def find_mapping(
    option: str, *, subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")
) -> tuple[IdMap, IdMap] | None:
    """The maps of user and group ids; None when the option names root, who can't be mapped to itself. Raises RemapError."""
    user, group = parse_option(option)
    if user.name == "root":
        return None
    uids = _ranges(subuid, user, "user")
    gids = _ranges(subgid, group, "group")
    return as_map(uids), as_map(gids)


def parse_option(option: str) -> tuple[Owner, Owner]:
    """``default``, ``user``, ``user:group``, ``uid`` or ``uid:gid``: the owner of user ids, and that of group ids."""
    words = option.split(":")
    if len(words) > 2 or not all(words):
        raise RemapError(f'invalid user/group specification in --userns-remap: "{option}"')
    if words == ["default"]:
        return Owner(DEFAULT_USER, -1), Owner(DEFAULT_USER, -1)
    user = Owner(DEFAULT_USER, -1) if words[0] == "default" else _user(words[0])
    group = words[1] if len(words) == 2 else str(user.number) if words[0].isdecimal() else user.name
    return user, _group(group)


def as_map(ranges: Sequence[IdRange]) -> IdMap:
    """The ranges one after the other from 0 on; they may have gaps outside, not inside."""
    rows = []
    inside = 0
    for ids in ranges[:_MOST_RANGES]:
        rows.append((inside, ids.first, ids.count))
        inside += ids.count
    return IdMap(tuple(rows))


def _user(text: str) -> Owner:
    try:
        found = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        raise RemapError(f'--userns-remap: there is no user "{text}"') from None
    return Owner(found.pw_name, found.pw_uid)


def _group(text: str) -> Owner:
    try:
        found = grp.getgrgid(int(text)) if text.isdecimal() else grp.getgrnam(text)
    except (KeyError, OverflowError):
        raise RemapError(f'--userns-remap: there is no group "{text}"') from None
    return Owner(found.gr_name, found.gr_gid)


def _ranges(file: Path, owner: Owner, kind: str) -> list[IdRange]:
    try:
        entries = parse_entries(file.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        entries = []
    found = ranges_of(entries, owner.name, owner.number)
    if not found:
        free = free_range(entries)
        raise RemapError(
            f"--userns-remap: no subordinate {kind} ids are set aside for {owner.name} in {file}; as root, run: "
            f"echo {owner.name}:{free.first}:{free.count} >>{file}"
        )
    return found

"""Users and groups of a container, as its own ``/etc/passwd`` and ``/etc/group`` define them; pure, given the two texts.

Source: what ``docker run --user`` accepts: ``name``, ``uid``, ``name:group``, ``uid:gid``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kitepy.engine.model.errors import InvalidParameter

_MAX_ID = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True)
class Account:
    """Numeric identity of a process and its home directory."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_account(user: str, passwd: str, group: str, group_add: Sequence[str] = ()) -> Account:
    """Look up a ``--user`` value.

    A user named alone brings the groups it is a member of; with an explicit group it doesn't. A number that no line
    defines runs with group 0 and the home directory ``/``. Raises InvalidParameter for an unknown name.
    """
    wanted_user, colon, wanted_group = user.partition(":")
    # Without a name the user is root, whether or not the image has a passwd file that says so.
    wanted_user = wanted_user or "0"
    users, groups = list(_users(passwd)), list(_groups(group))
    entry = _find_user(users, wanted_user)
    uid = entry.uid if entry else _number(wanted_user, f"unable to find user {wanted_user}: no matching entries in passwd file")
    gid = entry.gid if entry else 0
    additional: list[int] = []
    if colon and wanted_group:
        gid = _group_id(groups, wanted_group)
    elif entry:
        additional = [found.gid for found in groups if entry.name in found.members and found.gid != gid]
    for name in group_add:
        added = _group_id(groups, name)
        if added not in additional:
            additional.append(added)
    return Account(uid, gid, tuple(additional), (entry.home if entry else "") or "/")


def _find_user(users: Sequence[_User], wanted: str) -> _User | None:
    for entry in users:
        if entry.name == wanted:
            return entry
    if _NUMBER.fullmatch(wanted):
        for entry in users:
            if entry.uid == int(wanted):
                return entry
    return None


def _group_id(groups: Sequence[_Group], wanted: str) -> int:
    for entry in groups:
        if entry.name == wanted:
            return entry.gid
    return _number(wanted, f"unable to find group {wanted}: no matching entries in group file")


def _number(text: str, complaint: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise InvalidParameter(complaint)
    if not _is_id(text):
        raise InvalidParameter(f"uids and gids must be in range 0-{_MAX_ID}")
    return int(text)


def _is_id(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) <= _MAX_ID


def _users(text: str) -> Iterator[_User]:
    for fields in _lines(text, 6):
        if _is_id(fields[2]) and _is_id(fields[3]):
            yield _User(fields[0], int(fields[2]), int(fields[3]), fields[5])


def _groups(text: str) -> Iterator[_Group]:
    for fields in _lines(text, 3):
        if _is_id(fields[2]):
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], int(fields[2]), tuple(member.strip() for member in members if member.strip()))


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if not line.startswith("#") and len(fields) >= least:
            yield fields

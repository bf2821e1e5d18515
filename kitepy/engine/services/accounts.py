"""Users and groups of a container, as its own ``/etc/passwd`` and ``/etc/group`` define them; pure, given the two texts.

Source: what ``docker run --user`` accepts: ``name``, ``uid``, ``name:group``, ``uid:gid``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kitepy.engine.model.errors import InvalidParameter

_MAX_ID = 2**31 - 1


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
    users, groups = list(_users(passwd)), list(_groups(group))
    entry = _find_user(users, wanted_user or "0")
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
    if wanted.isascii() and wanted.isdigit():
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
    if text.isascii() and text.isdigit():
        if int(text) > _MAX_ID:
            raise InvalidParameter(f"uids and gids must be in range 0-{_MAX_ID}")
        return int(text)
    raise InvalidParameter(complaint)


def _users(text: str) -> Iterator[_User]:
    for fields in _lines(text, 6):
        if fields[2].isdigit() and fields[3].isdigit():
            yield _User(fields[0], int(fields[2]), int(fields[3]), fields[5])


def _groups(text: str) -> Iterator[_Group]:
    for fields in _lines(text, 3):
        if fields[2].isdigit():
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], int(fields[2]), tuple(member.strip() for member in members if member.strip()))


def _lines(text: str, least: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if not line.startswith("#") and len(fields) >= least:
            yield fields

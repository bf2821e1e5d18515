"""``--chown`` and ``--chmod``: what they mean in an image's tree."""

from __future__ import annotations

import os
import re
import stat

_ID = re.compile(r"\d{1,10}")
_MAX_ID = 2**31 - 1
_MAX_ACCOUNT_BYTES = 4 << 20
_SYMBOLIC = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o1007}


def resolve_owner(text: str, passwd: str, group: str) -> tuple[int, int]:
    """The ids of ``user[:group]``; a name alone brings its own group, a number that number. ValueError for unknown names."""
    user, _, wanted_group = text.partition(":")
    if not user:
        raise ValueError("no user is named")
    uid = _id(user, passwd)
    if uid is None:
        raise ValueError(f"can't find uid for user {user}")
    gid = _id(wanted_group, group) if wanted_group else _id(user, passwd, field=3)
    if gid is None:
        raise ValueError(f"can't find gid for group {wanted_group or user}")
    if uid > _MAX_ID or gid > _MAX_ID:
        raise ValueError(f"uids and gids must be in range 0-{_MAX_ID}")
    return uid, gid


def owner_in_root(text: str) -> tuple[int, int]:
    """The same with the account files of the current root directory, which may be a hostile image's."""
    return resolve_owner(text, _read_account_file("/etc/passwd"), _read_account_file("/etc/group"))


def _read_account_file(path: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""  # the image may have put a pipe or a device there
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(_MAX_ACCOUNT_BYTES)
    except OSError:
        return ""


def _id(name: str, accounts: str, field: int = 2) -> int | None:
    if _ID.fullmatch(name):
        return int(name)
    for line in accounts.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > field and _ID.fullmatch(fields[field]):
            return int(fields[field])
    return None


def parse_mode(text: str) -> ModeChange:
    """What ``--chmod`` asks for: an octal number or chmod(1)'s symbols. ValueError for anything else."""
    if re.fullmatch(r"[0-7]{1,4}", text):
        return ModeChange(octal=int(text, 8))
    clauses = []
    for clause in text.split(","):
        match = _SYMBOLIC.fullmatch(clause)
        if match is None:
            raise ValueError(f"invalid chmod parameter: '{text}': use an octal number like 755 or symbols like u=rwX,go=rX")
        clauses.append((match[1], match[2]))
    return ModeChange(clauses=tuple(clauses))


class ModeChange:
    """A new mode for files, absolute or relative to the one they have."""

    def __init__(self, *, octal: int | None = None, clauses: tuple[tuple[str, str], ...] = ()) -> None:
        self._octal = octal
        self._clauses = clauses

    def apply(self, mode: int) -> int:
        """The permission bits of a file whose full mode was ``mode``."""
        if self._octal is not None:
            return self._octal
        bits = stat.S_IMODE(mode)
        for who, actions in self._clauses:
            affected = 0
            for letter in "ugo" if not who or "a" in who else who:
                affected |= _CLASSES[letter]
            for operator, letters in re.findall(r"([-+=])([rwxXst]*)", actions):
                wanted = self._wanted(letters, bits, stat.S_ISDIR(mode)) & (affected | 0o1000)
                if operator == "+":
                    bits |= wanted
                elif operator == "-":
                    bits &= ~wanted
                else:
                    bits = (bits & ~(affected & 0o777)) | wanted
        return bits

    @staticmethod
    def _wanted(letters: str, bits: int, is_directory: bool) -> int:
        wanted = 0
        for letter in letters:
            if letter == "X":
                wanted |= 0o111 if is_directory or bits & 0o111 else 0
            elif letter == "s":
                wanted |= 0o6000
            elif letter == "t":
                wanted |= 0o1000
            else:
                wanted |= _BITS[letter]
        return wanted

"""What user namespace this process is in, and how ids map into the one around it; see user_namespaces(7)."""

from __future__ import annotations

import os

from kitepy.engine.kernel import mounts, namespaces
from kitepy.engine.kernel.syscalls import AT_FDCWD

_WHOLE_RANGE = 2**32 - 1


class IdMap:
    """Ids of a user namespace and of the namespace around it, as in ``/proc/<pid>/uid_map``: (inside, outside, count)."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: tuple[tuple[int, int, int], ...]) -> None:
        self.ranges = ranges

    @classmethod
    def parse(cls, text: str) -> IdMap:
        """From the text of ``uid_map`` or ``gid_map``."""
        rows = (line.split() for line in text.splitlines() if line.strip())
        return cls(tuple((int(inside), int(outside), int(count)) for inside, outside, count in rows))

    @property
    def is_initial(self) -> bool:
        """Whether this is the map of the machine's first user namespace, where every id stands for itself."""
        return self.ranges == ((0, 0, _WHOLE_RANGE),)

    @property
    def last(self) -> int:
        """The highest id of the unbroken range that starts at 0; -1 when 0 itself is not mapped."""
        end = 0
        for inside, _, count in sorted(self.ranges):
            if inside > end:
                break
            end = max(end, inside + count)
        return end - 1

    def text(self) -> str:
        """What is written to ``uid_map`` or ``gid_map`` to make this map."""
        return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in self.ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def outside(self, inside: int) -> int | None:
        """What an id is called outside, or None when it has no counterpart there."""
        for first, outer, count in self.ranges:
            if first <= inside < first + count:
                return outer + inside - first
        return None


def own_uid_map(pid: int | str = "self") -> IdMap:
    """The map of a process's user namespace as seen from ours."""
    return _read_map(f"/proc/{pid}/uid_map")


def own_gid_map(pid: int | str = "self") -> IdMap:
    """The same for group ids."""
    return _read_map(f"/proc/{pid}/gid_map")


def _read_map(path: str) -> IdMap:
    with open(path, encoding="ascii") as file:
        return IdMap.parse(file.read())


def in_user_namespace() -> bool:
    """Whether "root" here is an ordinary user of the machine: no device nodes, no limits above the user's own."""
    return not own_uid_map().is_initial


def create_user_namespace(uids: IdMap, gids: IdMap) -> int:
    """A new user namespace with these maps; returns its descriptor, which keeps it alive.

    Only for single-threaded callers: a forked child makes the namespace and is its first, short-lived member.
    """
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    made_read, made_write = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = namespaces.fork_with_pidfd()
    if not pid:
        _be_first_member(made_write, go_read, go_write)
    os.close(pidfd)
    os.close(made_write)
    try:
        answer = os.read(made_read, 16)
        if answer != b"made":
            number = int(answer or b"5")
            raise OSError(number, f"a new user namespace is not possible: {os.strerror(number)}")
        for name, text in (("uid_map", uids.text()), ("gid_map", gids.text())):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (go_read, go_write, made_read):
            os.close(fd)
        os.waitpid(pid, 0)


def _be_first_member(made_fd: int, go_fd: int, unused_fd: int) -> None:
    try:
        os.close(unused_fd)
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        os.write(made_fd, b"made")
        os.read(go_fd, 1)  # the end of the file: the maps are written, or never will be
    except OSError as error:
        os.write(made_fd, str(error.errno).encode())
    finally:
        os._exit(0)


def enter_user_namespace(fd: int, flags: int = 0) -> None:
    """Join a user namespace, by its own descriptor or with further ``flags`` by a pidfd. The ids stay those of before."""
    namespaces.setns(fd, namespaces.CLONE_NEWUSER | flags)


def become_root() -> None:
    """Take the ids of the root of the user namespace that was joined."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def probe_mapped_mounts(directory: str) -> str | None:
    """Why the files in a directory can't be shown with mapped ids; None when they can.

    Only for single-threaded callers with root.
    """
    try:
        some = IdMap(((0, 100_000, 65_536),))
        namespace_fd = create_user_namespace(some, some)
        try:
            tree_fd = mounts.clone_tree(AT_FDCWD, directory)
            try:
                mounts.map_ids(tree_fd, namespace_fd, directory)
            finally:
                os.close(tree_fd)
        finally:
            os.close(namespace_fd)
    except OSError as error:
        return error.strerror or str(error)
    return None

"""Control groups behind one interface: the driver's contract, how the machine's version is found, names in error messages.

``cgroups_v1`` and ``cgroups_v2`` implement it. Paths are absolute within the hierarchy (``/kitepy/<id>``), as in
``linux.cgroupsPath`` of an OCI document; ``resources`` is the document's ``linux.resources``. All calls are synchronous and
take tens of microseconds. A limit that this kernel can't apply raises ``Unsupported`` and names the limit.
"""

from __future__ import annotations

import os

from kitepy.engine.model.errors import Unsupported

PARENT = "/kitepy"
"""The group that all containers' groups lie in."""

Resources = dict[str, object]


class OomWatch:
    """A descriptor to poll: after one of ``poll_events`` ask ``happened``."""

    def __init__(self, fd: int, poll_events: int, path: str = "") -> None:
        """``path``: the file whose count of killed processes tells; without one each event means that memory ran out."""
        self.fd = fd
        self.poll_events = poll_events
        self._path = path
        self._kills = read_oom_kills(path) if path else 0

    def happened(self) -> bool:
        """Whether the event was that memory ran out; it is not told again."""
        if not self._path:
            return len(os.read(self.fd, 8)) == 8
        os.pread(self.fd, 4096, 0)  # which arms it for the next event
        before, self._kills = self._kills, read_oom_kills(self._path)
        return self._kills > before

    def close(self) -> None:
        """The group is about to go."""
        os.close(self.fd)


class CgroupDriver:
    """One cgroup per container; every method takes the group's path."""

    version = 0

    def create(self, path: str, resources: dict[str, object]) -> None:
        """Make the group (existing is fine) and apply the limits."""
        raise NotImplementedError

    def update(self, path: str, resources: dict[str, object]) -> None:
        """Change limits of an existing group; what ``resources`` leaves out stays as it is."""
        raise NotImplementedError

    def join(self, path: str) -> None:
        """Move the calling, single-threaded process into the group."""
        raise NotImplementedError

    def spawn_fd(self, path: str) -> int | None:
        """A descriptor for CLONE_INTO_CGROUP, or None where a child has to ``join`` by itself."""
        raise NotImplementedError

    def add(self, path: str, pid: int) -> None:
        """Move a process with all its threads into the group."""
        raise NotImplementedError

    def freeze(self, path: str) -> None:
        """Stop all processes of the group; returns when they are stopped. Raises TimeoutError after two seconds."""
        raise NotImplementedError

    def thaw(self, path: str) -> None:
        """Let the processes run again."""
        raise NotImplementedError

    def kill(self, path: str) -> None:
        """SIGKILL to every process in the group, frozen ones included; a missing group is fine."""
        raise NotImplementedError

    def pids(self, path: str) -> list[int]:
        """The processes of the group and of groups below it, as the caller's PID namespace numbers them."""
        raise NotImplementedError

    def oom_kills(self, path: str) -> int:
        """How many processes of the group the kernel killed for lack of memory."""
        raise NotImplementedError

    def watch_oom(self, path: str) -> OomWatch | None:
        """Be told when the group runs out of memory; None where this kernel can't. The caller closes it before ``remove``."""
        raise NotImplementedError

    def stats(self, path: str) -> dict[str, dict[str, str]]:
        """Raw contents of the accounting files: {controller: {file name: text}}; what is missing is left out."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Delete the group and groups below it; a missing group is fine. Raises OSError EBUSY while processes are in it."""
        raise NotImplementedError

    def controllers(self) -> frozenset[str]:
        """Which controllers can be used: ``memory``, ``cpu``, ``cpuset``, ``pids``, ``io``, ``devices``, ``freezer`` …"""
        raise NotImplementedError


def unsupported(limit: str, why: str) -> Unsupported:
    """The error for a limit that this machine can't apply."""
    return Unsupported(f"this kernel can't limit {limit}: {why}")


def write_value(path: str, value: str) -> None:
    """Write one control file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {value!r} to {path}: {error.strerror}") from error
    finally:
        os.close(fd)


def read_value(path: str) -> str:
    """The text of one control file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(fd)


def section(resources: dict[str, object], name: str) -> dict[str, object]:
    """One part of the resources document, empty when absent."""
    value = resources.get(name)
    return value if isinstance(value, dict) else {}


def remove_tree(directory: str) -> None:
    """rmdir a group's directory after those below it; missing is fine."""
    try:
        entries = [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in entries:
        remove_tree(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return


def read_oom_kills(path: str) -> int:
    """The ``oom_kill`` line of ``memory.oom_control`` (v1) or ``memory.events`` (v2); 0 when the group is gone."""
    try:
        text = read_value(path)
    except FileNotFoundError:
        return 0
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def read_pids(directory: str) -> list[int]:
    """The processes in a group's directory and those below it."""
    found: list[int] = []
    try:
        found += [int(line) for line in read_value(f"{directory}/cgroup.procs").split()]
        entries = [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return found
    for name in entries:
        found += read_pids(f"{directory}/{name}")
    return found


HELPERS = "helpers"
"""The group beside ``PARENT`` that holds the engine's own processes in a subtree that was delegated to an ordinary user."""


def own_group() -> str:
    """The path of the calling process's group in the unified hierarchy; empty in its root, or where there is none."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].strip().rstrip("/")
    return ""


def detect(delegated: str | None = None, problem: str = "") -> CgroupDriver:
    """The driver for this machine: v2 when ``/sys/fs/cgroup`` is the unified hierarchy, else v1 with what is mounted.

    In a user namespace it is v2 in the ``delegated`` directory, or none if that is empty, for the reason of ``problem``. When it
    is not said, the process's own place tells: the helpers of a delegated subtree are in its ``HELPERS``.
    """
    from kitepy.engine.kernel.cgroups_none import NoCgroups
    from kitepy.engine.kernel.cgroups_v1 import CgroupV1, find_hierarchies
    from kitepy.engine.kernel.cgroups_v2 import CgroupV2, find_unified
    from kitepy.engine.kernel.user_namespaces import in_user_namespace

    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = file.read()
    hierarchies = find_hierarchies(mountinfo)
    if in_user_namespace():
        base = find_delegated(find_unified(mountinfo)) if delegated is None else delegated
        if base:
            return CgroupV2(base, rule_devices=False)
        why = problem or "no control group is delegated to it"
        return NoCgroups(f"it runs without root, and {why}; see `kitepy doctor`")
    if hierarchies:
        return CgroupV1(hierarchies)
    root = find_unified(mountinfo)
    if root is not None:
        return CgroupV2(root)
    raise Unsupported("no control groups are mounted on this machine (/sys/fs/cgroup)")


def find_delegated(mount_point: str | None) -> str:
    """The directory of the delegated subtree in whose ``HELPERS`` the calling process is; empty when it isn't in one."""
    own = own_group()
    if mount_point is None or not own.endswith(f"/{HELPERS}"):
        return ""
    base = mount_point + own.removesuffix(f"/{HELPERS}")
    return base if os.access(f"{base}/cgroup.procs", os.W_OK) else ""

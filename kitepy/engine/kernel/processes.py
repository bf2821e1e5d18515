"""Telling a process from a later one with the same number, and finding what it left; see proc(5)."""

from __future__ import annotations

import os


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None when it has ended, a zombie included."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def open_namespace(pid: int, started: int, name: str) -> int:
    """A descriptor of a process's namespace, ``name`` as in ``/proc/<pid>/ns``; ProcessLookupError when that process has ended.

    ``started`` is from ``start_ticks``: a successor with the same number may be anybody, and its files anybody's.
    """
    try:
        # Whatever is opened through this directory is of the process that it was opened for.
        process_fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(3, f"process {pid} has ended") from None
    try:
        with open(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_fd), encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        if fields[0] == "Z" or int(fields[19]) != started:
            raise ProcessLookupError(3, f"process {pid} has ended")
        return os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process_fd)
    except FileNotFoundError:
        raise ProcessLookupError(3, f"process {pid} has ended") from None
    finally:
        os.close(process_fd)


def kill_if_same(pid: int, started: int) -> None:
    """SIGKILL to a process that was noted down with its start; one that has ended, or a successor, is left alone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_ticks(pid) == started:
            from signal import pidfd_send_signal

            pidfd_send_signal(pidfd, 9)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on; some may have ended meanwhile."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    children = [int(word) for word in file.read().split()]
                found += children
                waiting += children
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class ProcessUse:
    """What some processes use together; see proc_pid_stat(5) and proc_pid_smaps_rollup(5)."""

    __slots__ = ("count", "memory_bytes", "system_ticks", "user_ticks")

    def __init__(self) -> None:
        self.user_ticks = 0
        self.system_ticks = 0
        self.memory_bytes = 0
        """Shared pages count in parts, one for each process that shares them."""
        self.count = 0


def use_of_descendants(pid: int) -> ProcessUse:
    """What the descendants of a process use, with the time of those that have ended and were waited for.

    Raises FileNotFoundError or ProcessLookupError when the process itself is gone.
    """
    use = ProcessUse()
    _, _, ended_user, ended_system = _times(pid)
    use.user_ticks, use.system_ticks = ended_user, ended_system
    for child in descendants(pid):
        try:
            user, system, ended_user, ended_system = _times(child)
            use.memory_bytes += _proportional_bytes(child)
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended meanwhile.
        use.user_ticks += user + ended_user
        use.system_ticks += system + ended_system
        use.count += 1
    return use


def _times(pid: int) -> tuple[int, int, int, int]:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(field) for field in fields[11:15])
    return user, system, ended_user, ended_system


def _proportional_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        try:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except ProcessLookupError:
            return 0  # A zombie has no memory.
    return 0

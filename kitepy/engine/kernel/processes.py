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

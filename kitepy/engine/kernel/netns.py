"""Network namespaces made and visited by threads that are thrown away, so that no thread of the engine ever changes its own.

The kernel moves a single thread with unshare(2) and setns(2). A pooled thread that stayed behind in a container's
namespace would later do the host's work in the wrong place, so each visit gets a fresh thread which ends with it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_NAMESPACE_OF_THIS_THREAD = "/proc/thread-self/ns/net"

# Not ``kernel.syscalls``, which keeps the interpreter lock: a new namespace may have to wait for the removal of old ones,
# and the event loop must not wait with it.
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def open_current_namespace() -> int:
    """A descriptor of the calling thread's network namespace; the caller closes it."""
    return os.open(_NAMESPACE_OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC)


def open_namespace_of(pid: int) -> int:
    """A descriptor of a process's network namespace. Raises FileNotFoundError when the process is gone."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def same_namespace(first_fd: int, second_fd: int) -> bool:
    """Whether two descriptors refer to one namespace (namespaces(7): device and inode numbers identify it)."""
    first, second = os.fstat(first_fd), os.fstat(second_fd)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # carried over to the caller's thread below
            failures.append(error)

    thread = threading.Thread(target=body, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def in_new_namespace(work: Callable[[], T]) -> T:
    """Runs the function inside a network namespace made for it; the namespace lives as long as a descriptor or socket of it.

    Blocks for about a millisecond; call it off the event loop.
    """

    def body() -> T:
        _check(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
        return work()

    return _in_thread(body)


def in_namespace(fd: int, work: Callable[[], T]) -> T:
    """Runs the function inside an existing network namespace."""

    def body() -> T:
        _check(_libc.setns(fd, CLONE_NEWNET), "setns(CLONE_NEWNET)")
        return work()

    return _in_thread(body)

"""Kernel parameters below ``/proc/sys``; which parameters matter, and what to do when one is refused, is the caller's choice.

Entries below ``net/`` belong to the network namespace of the calling *thread* (sysctl(5), network_namespaces(7)).
"""

from __future__ import annotations

import os

_ROOT = "/proc/sys/"


def read_sysctl(name: str) -> str:
    """The value of a parameter named like ``net/ipv4/ip_forward``, without the trailing newline.

    The name uses slashes, since interface names may contain dots.
    """
    with open(_ROOT + name, encoding="ascii") as file:
        return file.read().strip()


def write_sysctl(name: str, value: str) -> None:
    """Sets a parameter. Raises OSError with the path: EROFS or EACCES where ``/proc/sys`` is read-only."""
    path = _ROOT + name
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    except OSError as error:
        raise OSError(error.errno, f"writing {value!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def ensure_sysctl(name: str, value: str) -> bool:
    """Sets a parameter unless it has that value already; tells whether it had to be changed."""
    if read_sysctl(name).split() == value.split():
        return False
    write_sysctl(name, value)
    return True

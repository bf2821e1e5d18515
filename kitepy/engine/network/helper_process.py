"""Helper processes that serve containers beside the engine and outlive it: starting one, finding a former engine's, hearing it.

They are executed anew instead of forked, without site-packages, and talk over packet sockets (``kernel/packets.py``).
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.packets import receive

ANSWER_TIMEOUT_S = 10.0
PACKAGE_ROOT = Path(__file__).resolve().parents[3]
"""What has to be on the module path of a helper."""


def find_helper(path: Path) -> socket.socket | None:
    """A channel to the process that listens at ``path``; None when there is none. Raises OSError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    channel.settimeout(ANSWER_TIMEOUT_S)
    try:
        channel.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    return channel


def start_helper(code: str, arguments: Sequence[str], fds: Sequence[int] = ()) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Execute Python code; its first argument is the number of its end of the channel, then come ``arguments``.

    ``fds`` are inherited under their numbers. Gives our end of the channel and the process. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        cache = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", *cache, "-c", code, str(theirs.fileno()), *arguments],
            pass_fds=[theirs.fileno(), *fds],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    ours.settimeout(ANSWER_TIMEOUT_S)
    return ours, child


def receive_answer(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and its descriptors. Raises ConnectionResetError when the process has ended, OSError in time."""
    received = receive(channel)
    if received is None:
        raise ConnectionResetError(errno.ECONNRESET, "the process has ended")
    message, _, fds = received
    return message, fds

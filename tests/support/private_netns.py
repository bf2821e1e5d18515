"""Runs a test's coroutine in a network namespace of its own, so that nothing on the host changes and all of it goes at the end.

Threads and processes that the coroutine starts are in the namespace as well: they inherit it.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.netlink import LOOPBACK_INDEX, RouteSocket, set_link
from kitepy.engine.kernel.netns import in_namespace, in_new_namespace

SCENARIO_TIMEOUT_S = 60.0
_CLONE_NEWNS = 0x00020000


def run_in_private_netns(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs the scenario to its end, with loopback up and nothing else."""

    async def bounded() -> None:
        with RouteSocket() as route:
            route.execute([set_link(LOOPBACK_INDEX, up=True)])
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            await scenario()

    in_new_namespace(lambda: asyncio.run(bounded()))


def unshare_mounts() -> None:
    """Gives the calling thread, and what it starts from now on, mounts of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")


def scratch_directory() -> Path:
    """A directory for a socket: with a short name, gone at the end of the run."""
    directory = Path(tempfile.mkdtemp(prefix="kn-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


class Place:
    """A namespace seen by a test: sockets are made in it, but used by the test's own loop. None is the current one."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self.netns_fd = netns_fd

    def inside(self, work: Callable[[], Any]) -> Any:
        """Runs a function in the namespace."""
        return work() if self.netns_fd is None else in_namespace(self.netns_fd, work)

    async def serve(self, answer: bytes, port: int = 80, host: str = "0.0.0.0") -> asyncio.Server:
        """A TCP service that reads to the end, then answers with its name, the client's address and what it read."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = self.inside(lambda: socket.create_server((host, port), family=family, backlog=512))

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received = await reader.read()
            client = writer.get_extra_info("peername")[0].encode()
            writer.write(b"|".join((answer, client, received)))
            await writer.drain()
            writer.close()

        return await asyncio.start_server(handle, sock=listener)

    async def ask(self, host: str, port: int, data: bytes = b"hello", timeout_s: float = 3.0) -> bytes:
        """Connects, sends, closes its half and reads the answer. Raises OSError (TimeoutError when nobody answers)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        client = self.inside(lambda: socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        loop = asyncio.get_running_loop()
        with client:
            async with asyncio.timeout(timeout_s):
                await loop.sock_connect(client, (host, port))
                await loop.sock_sendall(client, data)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while chunk := await loop.sock_recv(client, 65536):
                    answer += chunk
        return answer

    def udp(self, address: tuple[str, int] | None = None, family: int = socket.AF_INET) -> socket.socket:
        """A non-blocking datagram socket."""
        found = self.inside(lambda: socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        if address is not None:
            found.bind(address)
        return found

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program in the namespace. It blocks the loop: for short ones."""
        return self.inside(lambda: subprocess.run(command, capture_output=True, text=True, timeout=20, check=False))


async def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.01)

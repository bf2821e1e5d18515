"""The engine's asyncio end of the packet sockets: whole packets, with descriptors, without blocking the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from kitepy.engine.kernel import packets


def new_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected SEQPACKET sockets; the first one is ours and non-blocking, the second one is for the other process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


async def wait_writable(fd: int) -> None:
    """Return when the descriptor takes more data."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def wait_readable(*fds: int) -> None:
    """Return when one of the descriptors has data or has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    for fd in fds:
        loop.add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        for fd in fds:
            loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def send(
    channel: socket.socket,
    message: packets.Message,
    payload: bytes = b"",
    fds: Sequence[int] = (),
    lock: asyncio.Lock | None = None,
) -> None:
    """Send one packet, waiting for room. With ``lock``, concurrent senders take turns."""
    if lock is not None:
        async with lock:
            await send(channel, message, payload, fds)
        return
    while True:
        try:
            packets.send(channel, message, payload, tuple(fds))
            return
        except BlockingIOError:
            await wait_writable(channel.fileno())

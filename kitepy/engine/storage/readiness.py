"""Waiting for a descriptor on the event loop, for pipes, sockets and pidfds that asyncio has no stream for."""

from __future__ import annotations

import asyncio


async def readable(fd: int) -> None:
    """Return when something can be read, or the other end is closed; a pidfd becomes readable when its process ends."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _fire, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Return when something can be written, or the other end is closed."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _fire, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _fire(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

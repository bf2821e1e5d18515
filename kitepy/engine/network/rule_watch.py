"""Notices when other programs change the engine's table of rules, and puts it back: ``nft flush ruleset``, a firewall's reload.

The kernel tells of every change (multicast group ``NFNLGRP_NFTABLES``). What is removed from our table by a socket that isn't
this process's own was removed by somebody else. Additions are left alone: whoever adds a rule means it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator

from kitepy.engine.kernel.nftables import NftablesError
from kitepy.engine.network.ruleset import RuleSet

logger = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
# DELTABLE, DELCHAIN, DELRULE, DELSET, DELSETELEM of linux/netfilter/nf_tables.h; each names its table in attribute 1.
_REMOVALS = frozenset({2, 5, 8, 11, 14})
_TABLE_NAME = 1
_MESSAGE = struct.Struct("=IHHII")
_GENERIC_HEADER = 4
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BUFFER = 1 << 20
_FIRST_DELAY_S = 0.05
"""A reload is several transactions: to act amid them would be to act in vain."""
_LONGEST_DELAY_S = 10.0
_SOCKET_INODE = re.compile(r"socket:\[(\d+)\]")


def removals(data: bytes) -> Iterator[tuple[str, int]]:
    """The table and the sender's port of each message that removes something from a table."""
    offset = 0
    while offset + _MESSAGE.size <= len(data):
        length, kind, _, _, sender = _MESSAGE.unpack_from(data, offset)
        if length < _MESSAGE.size:
            return
        if kind >> 8 == _SUBSYSTEM_NFTABLES and kind & 0xFF in _REMOVALS:
            start = offset + _MESSAGE.size + _GENERIC_HEADER
            while start + _ATTRIBUTE.size <= offset + length:
                size, name = _ATTRIBUTE.unpack_from(data, start)
                if name & 0x3FFF == _TABLE_NAME:
                    yield data[start + _ATTRIBUTE.size : start + size].rstrip(b"\0").decode(errors="replace"), sender
                    break
                start += max(_ATTRIBUTE.size, (size + 3) & ~3)
        offset += (length + 3) & ~3


def own_ports() -> set[int]:
    """The netlink ports of this process's sockets for netfilter, in the network namespace of the calling thread."""
    inodes = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found = _SOCKET_INODE.fullmatch(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # closed meanwhile
            continue
        if found is not None:
            inodes.add(found[1])
    with open("/proc/thread-self/net/netlink") as table:
        rows = [line.split() for line in table][1:]
    return {int(row[2]) for row in rows if int(row[1]) == _NETLINK_NETFILTER and row[9] in inodes}


class RuleWatch:
    """A socket that becomes readable when rules change; bound to the network namespace of the thread that makes it."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._own: set[int] = set()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def touched(self) -> bool:
        """Reads what has come; whether somebody else removed something of ours, or may have: too much has come at once."""
        found = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            senders = {sender for table, sender in removals(data) if table == self._table} - self._own
            if senders:
                self._own = own_ports()
                found = found or not senders <= self._own

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


class RuleKeeper:
    """Keeps a set of rules in place while the event loop runs. Where others remove it again and again, it takes its time."""

    def __init__(
        self, rules: RuleSet, in_kernel: Callable[[Callable[[], None]], Awaitable[None]], restored: Callable[[], None]
    ) -> None:
        """``in_kernel`` runs a function on a thread; ``restored`` is called there, after the rules are back."""
        self._rules = rules
        self._in_kernel = in_kernel
        self._restored = restored
        self._watch = RuleWatch(rules.table)
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._delay_s = _FIRST_DELAY_S
        self._last = 0.0
        self._loop.add_reader(self._watch.fileno(), self._look)

    def close(self) -> None:
        """Stop watching. A repair that is under way ends by itself."""
        if self._watch.fileno() >= 0:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        if self._watch.touched() and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._repair(), name="rules")

    async def _repair(self) -> None:
        now = self._loop.time()
        is_quiet = now - self._last > 2 * _LONGEST_DELAY_S
        self._delay_s = _FIRST_DELAY_S if is_quiet else min(self._delay_s * 2, _LONGEST_DELAY_S)
        await asyncio.sleep(self._delay_s)
        self._last = self._loop.time()
        logger.warning("the rules of table %s were changed by another program: putting them back", self._rules.table)

        def work() -> None:
            self._rules.restore()
            self._restored()

        try:
            await self._in_kernel(work)
        except NftablesError as error:
            logger.warning("the rules of table %s could not be put back: %s", self._rules.table, error.strerror)

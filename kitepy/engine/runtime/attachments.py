"""All clients attached to one container: who is connected, what they type, what they are sent.

Reading the output is left to ``output``; the queues themselves, and what becomes of a client that stalls, to ``attach``.
"""

from __future__ import annotations

import select
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket

from kitepy.engine.kernel.packets import Message
from kitepy.engine.runtime import attach as streams
from kitepy.engine.runtime.attach import Attachment, StdinQueue
from kitepy.engine.runtime.watch import GONE, READ, WRITE, OutputWatch


class StdinFeed:
    """The queue into the process's stdin, and being told when the process has room for more."""

    def __init__(self, queue: StdinQueue, epoll: select.epoll, outputs: OutputWatch) -> None:
        self._queue = queue
        self._epoll = epoll
        self._outputs = outputs

    @property
    def fd(self) -> int:
        """-1 when the process can't be sent anything any more."""
        return self._queue.fd

    @property
    def full(self) -> bool:
        """Whether clients must wait."""
        return self._queue.full

    @property
    def broken(self) -> bool:
        """Whether the process has closed its stdin with input left."""
        return self._queue.broken

    def take(self, packet: bytes) -> None:
        """Queue what a client sent: input, or its end."""
        if packet[:1] == streams.STDIN:
            self._queue.put(packet[1:])
        elif packet[:1] == streams.STDIN_END:
            self._queue.end()
        self._watch()

    def end(self) -> None:
        """End of input, once the queue is empty."""
        self._queue.end()

    def flush(self) -> None:
        """Pass on what the process takes."""
        self._queue.flush()
        self._watch()

    def forget(self) -> None:
        """The terminal has gone; its descriptor belongs to the output stream."""
        self._queue.fd = -1

    def _watch(self) -> None:
        queue = self._queue
        if not queue.is_open:
            return
        if queue.fd in self._outputs:
            self._outputs.ask_for_room(queue.fd, queue.pending)
            return
        try:
            if queue.pending:
                self._epoll.register(queue.fd, WRITE)
            else:
                self._epoll.unregister(queue.fd)
        except (FileExistsError, FileNotFoundError):
            return  # already as wanted


class Attachments:
    """The attached clients. ``fd in attachments`` and ``serve`` cover their sockets and the process's stdin."""

    def __init__(
        self, epoll: select.epoll, stdin: StdinFeed | None, *, stdin_once: bool, terminal: bool, overflow_directory: str | None
    ) -> None:
        self._epoll = epoll
        self._stdin = stdin
        self._stdin_once = stdin_once
        self._terminal = terminal
        self._overflow_directory = overflow_directory
        self._clients: dict[int, Attachment] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._clients or (self._stdin is not None and fd == self._stdin.fd)

    def add(self, wish: Message, fd: int, before: list[tuple[bytes, bytes]] | None = None) -> None:
        """Attach a client to the streams that it wishes for; takes over the descriptor of its socket.

        ``before`` is output (kind, data) that comes before what is read from now on.
        """
        channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)
        client = Attachment(
            channel,
            stdin=bool(wish.get("stdin")) and self._stdin is not None,
            stdout=bool(wish.get("stdout")),
            stderr=bool(wish.get("stderr")),
            drops_when_stalled=self._terminal,
            overflow_directory=self._overflow_directory,
        )
        self._clients[client.fd] = client
        self._epoll.register(client.fd, READ)
        for kind, data in before or ():
            if data:
                client.put(kind, data, time.monotonic())
        self._watch(client)

    def serve(self, fd: int, mask: int) -> None:
        """Something happened on a client's socket, or the process has room for input."""
        client = self._clients.get(fd)
        if client is None:
            self.flush_stdin()
            return
        if mask & WRITE:
            client.flush(time.monotonic())
        if mask & (READ | GONE):
            self._read(client)
        if client.fd in self._clients:
            self._watch(client)

    def put(self, kind: bytes, chunk: bytes) -> None:
        """Pass output on to everybody who wants it."""
        if not self._clients:
            return
        now = time.monotonic()
        for client in list(self._clients.values()):
            client.put(kind, chunk, now)
            self._watch(client)

    def hold_up(self, *, logged: bool) -> bool:
        """Whether the output must wait for a client. Without a log a lone client is waited for as long as it takes."""
        now = time.monotonic()
        alone = len(self._clients) == 1 and not logged
        # All are asked, since the answer is also what gives up on a client that has stalled for too long.
        waits = [client.holds_up(now, patient=alone) for client in self._clients.values()]
        for client in [client for client in self._clients.values() if client.dead]:
            self._drop(client)
        return any(waits)

    def flush_stdin(self) -> None:
        """Pass on input; clients that had to wait may send again."""
        if self._stdin is None:
            return
        self._stdin.flush()
        self._tell_stdin_broken()
        for client in list(self._clients.values()):
            self._watch(client)

    def terminal_closed(self) -> None:
        """There is nothing left to type into."""
        if self._stdin is not None:
            self._stdin.forget()

    def finish(self) -> None:
        """Send the clients the rest. One that stalls is waited for as long as it stays connected: it holds up nobody now."""
        now = time.monotonic()
        for client in self._clients.values():
            client.finish()
            client.flush(now)
        while True:
            poller = select.poll()
            for client in list(self._clients.values()):
                if client.dead or not client.pending:
                    del self._clients[client.fd]
                    client.close()
                else:
                    poller.register(client.fd, select.POLLOUT)
            if not self._clients:
                return
            for fd, mask in poller.poll():
                client = self._clients[fd]
                client.dead = client.dead or bool(mask & GONE) or not client.flush(time.monotonic())

    def _watch(self, client: Attachment) -> None:
        if client.dead:
            self._drop(client)
            return
        mask = WRITE if client.pending else 0
        if not (client.stdin and self._stdin is not None and self._stdin.full):
            mask |= READ
        self._epoll.modify(client.fd, mask)

    def _read(self, client: Attachment) -> None:
        try:
            packet = client.channel.recv(streams.MAX_DATA + 1)
        except (BlockingIOError, ConnectionResetError):
            return  # a reset says that the client left output unread; what it had sent before can still be read
        except OSError:
            packet = b""
        if not packet:
            self._drop(client)
            return
        self._take_input(client, packet)

    def _take_input(self, client: Attachment, packet: bytes) -> None:
        if client.stdin and self._stdin is not None:
            self._stdin.take(packet)
            self._tell_stdin_broken()

    def _tell_stdin_broken(self) -> None:
        if self._stdin is None or not self._stdin.broken:
            return
        now = time.monotonic()
        for client in self._clients.values():
            if client.stdin:
                client.put(streams.STDIN_BROKEN, b"", now)
                client.stdin = False

    def _drop(self, client: Attachment) -> None:
        del self._clients[client.fd]
        self._epoll.unregister(client.fd)
        while client.stdin:  # input that was sent before the client left still counts
            try:
                packet = client.channel.recv(streams.MAX_DATA + 1)
            except ConnectionResetError:
                continue
            except OSError:
                break
            if not packet:
                break
            self._take_input(client, packet)
        client.close()
        if client.stdin and self._stdin_once and self._stdin is not None:
            self._stdin.end()

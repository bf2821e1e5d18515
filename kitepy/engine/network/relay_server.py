"""The relay process: serves published ports for the engine and goes on doing so when the engine is gone.

It is started by ``relay_process``, which speaks to it in packets (``kernel/packets``): first over the socket it was born with,
later engines over the socket ``relay.sock`` of the exec root, mode 0600. Requests, each answered by one packet:

``serve``   ``relays``, each with ``key`` and ``target``, and as many bound sockets, at most 30: relay them from now on; a key
            that is served already is served anew
``drop``    ``keys``: stop, close the sockets, then answer
``list``    answers with the keys and a descriptor of each socket, in packets of at most 30 until ``more`` is false
``end``     stop everything and exit

When nobody is connected and nothing is served, the process ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Any

from kitepy.engine.kernel import syscalls
from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.network.relay import Reactor, Relay, make_relay

FDS_A_PACKET = 30
"""How many descriptors may ride along with a packet."""


class RelayServer:
    """The relays by key and the engine's connections."""

    def __init__(self, path: str, first: socket.socket) -> None:
        self._reactor = Reactor()
        self._relays: dict[str, Relay] = {}
        self._connections: set[socket.socket] = set()
        self._path = path
        self._ended = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        self._listener.bind(path)
        os.umask(mask)
        self._listener.listen(4)
        self._reactor.watch(self._listener.fileno(), select.EPOLLIN, lambda _: self._add(self._listener.accept()[0]))
        self._add(first)

    def run(self) -> None:
        """Serve until there is nothing more to serve."""
        while not self._ended and (self._connections or self._relays):
            self._reactor.turn()
        for relay in self._relays.values():
            relay.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _add(self, connection: socket.socket) -> None:
        self._connections.add(connection)
        self._reactor.watch(connection.fileno(), select.EPOLLIN, lambda _: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        try:
            received = receive(connection)
            if received is not None:
                message, _, fds = received
                self._answer(connection, message, fds)
                return
        except ConnectionError:
            pass  # the engine was killed: the same as a hang-up
        self._reactor.forget(connection.fileno())
        self._connections.discard(connection)
        connection.close()

    def _answer(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        wish = message.get("op")
        if wish == "serve":
            for relay, fd in zip(message["relays"], fds, strict=True):
                self._serve(str(relay["key"]), socket.socket(fileno=fd), relay["target"])
        elif wish == "drop":
            self._drop(message["keys"])
        elif wish == "list":
            self._list(connection)
            return
        elif wish == "end":
            self._ended = True
        send(connection, {"ok": True})

    def _serve(self, key: str, bound: socket.socket, target: list[Any]) -> None:
        self._drop([key])
        relay = make_relay(self._reactor, bound, (str(target[0]), int(target[1])))
        if relay is not None:
            self._relays[key] = relay

    def _drop(self, keys: list[str]) -> None:
        for key in keys:
            relay = self._relays.pop(key, None)
            if relay is not None:
                relay.close()

    def _list(self, connection: socket.socket) -> None:
        keys = list(self._relays)
        for start in range(0, len(keys) + 1, FDS_A_PACKET):
            part = keys[start : start + FDS_A_PACKET]
            more = start + FDS_A_PACKET < len(keys) + 1
            answer: Message = {"keys": part, "more": more}
            send(connection, answer, fds=[self._relays[key].socket.fileno() for key in part])


def serve(fd: int, path: str) -> None:
    """Be the relay process; returns at its end."""
    import resource

    syscalls.set_name("kitepy-relay")
    syscalls.set_not_dumpable()
    for number in (1, 2, 15):
        # It ends with its ports: a signal to the engine's group or session must not cut connections.
        syscalls.ignore_signal(number)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    RelayServer(path, socket.socket(fileno=fd)).run()

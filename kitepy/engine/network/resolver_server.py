"""The resolver process: the name service of all containers on user-defined networks, which goes on when the engine is gone.

It is started by ``resolver_process``, which speaks to it in packets (``kernel/packets``): first over the socket it was born
with, later engines over ``resolver.sock`` of the exec root, mode 0600. Commands; only ``list`` and ``end`` are answered:

``serve``     ``id``, ``view`` and two sockets (UDP, TCP): answer a container; one that is served already is served anew
``view``      ``id``, ``view``: what a container sees from now on
``drop``      ``ids``: serve them no more
``announce``  ``endpoints``: their names and addresses from now on
``withdraw``  ``ids`` of endpoints
``begin``     what is served, viewed or announced from here on is current …
``finish``    … and the rest is forgotten: how an engine that took over says that it has told everything
``list``      answers with the ids of containers and their sockets, in packets until ``more`` is false
``end``       answers all who are connected, and exits

A question is answered only after all commands that were there when it came, so that whoever starts a container and then asks
for it finds it. When nobody is connected and nothing is served, the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from kitepy.engine.kernel import capabilities, syscalls
from kitepy.engine.kernel.namespaces import CLONE_NEWNET, setns
from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.network.relay import Reactor
from kitepy.engine.network.resolver_answers import Answerer, Forward
from kitepy.engine.network.resolver_forward import Forwarder, Server
from kitepy.engine.network.resolver_names import Directory, NamedEndpoint, View

_DATAGRAMS_AT_ONCE = 16
_QUERY_BYTES = 4096
_CONNECTIONS = 64
_QUESTIONS_OF_A_CONNECTION = 32
_UNSENT_BYTES = 128 * 1024
_FIRST_QUESTION_S = 2.0
_NEXT_QUESTION_S = 8.0
_RETRY_ACCEPT_S = 0.5
_CONTAINERS_A_PACKET = 15
_SIOCGSKNS = 0x894C
_LENGTH = struct.Struct("!H")


class _Namespaces:
    """Makes sockets in the namespaces of containers and in the engine's, where this process is otherwise."""

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def open_socket(self, inside: socket.socket, server: Server, family: int, kind: int) -> socket.socket:
        """``inside`` is a socket of the container's namespace. Raises OSError."""
        kind |= socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        if server.from_engine:
            return socket.socket(family, kind)
        there = fcntl.ioctl(inside.fileno(), _SIOCGSKNS)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            return socket.socket(family, kind)
        finally:
            setns(self._home, CLONE_NEWNET)


class _Container:
    """One container's sockets, what it sees, and what it asks outside."""

    def __init__(
        self,
        reactor: Reactor,
        container_id: str,
        sockets: tuple[socket.socket, socket.socket],
        view: View,
        ask: _Ask,
        catch_up: Callable[[], None],
        make: _Make,
    ) -> None:
        self.container_id = container_id
        self.generation = 0
        self._reactor = reactor
        self._udp, self._tcp = sockets
        self._ask = ask
        self._catch_up = catch_up
        self._clients: set[_Client] = set()
        self._accepting = False
        self.forwarder = Forwarder(reactor, lambda server, family, kind: make(self._udp, server, family, kind))
        self.see(view)
        for end in sockets:
            end.setblocking(False)
        reactor.watch(self._udp.fileno(), select.EPOLLIN, self._on_datagrams)
        self._accept_again()

    @property
    def descriptors(self) -> tuple[int, int]:
        return self._udp.fileno(), self._tcp.fileno()

    def see(self, view: View) -> None:
        self.view = view
        self.forwarder.set_servers(view.upstream, internal=view.internal)

    def close(self) -> None:
        self.forwarder.close()
        for client in list(self._clients):
            client.close()
        self._reactor.forget(self._udp.fileno())
        self._stop_accepting()
        self._udp.close()
        self._tcp.close()

    def _on_datagrams(self, _: int) -> None:
        received = []
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                received.append(self._udp.recvfrom(_QUERY_BYTES))
            except OSError:  # nothing left, or an ICMP message about an answer
                break
        self._catch_up()
        for packet, client in received:
            self._ask(self, packet, lambda answer, client=client: self._send(answer, client), False)  # type: ignore[misc]

    def _send(self, answer: bytes, client: Any) -> None:
        with contextlib.suppress(OSError):  # datagrams may get lost
            self._udp.sendto(answer, client)

    # --- TCP ---

    def _accept_again(self) -> None:
        if not self._accepting and self._tcp.fileno() >= 0:
            self._reactor.watch(self._tcp.fileno(), select.EPOLLIN, self._on_connection)
            self._accepting = True

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._reactor.forget(self._tcp.fileno())
            self._accepting = False

    def _on_connection(self, _: int) -> None:
        if len(self._clients) >= _CONNECTIONS:
            self._stop_accepting()
            return
        try:
            connection, _peer = self._tcp.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left
            self._stop_accepting()
            self._reactor.later(_RETRY_ACCEPT_S, self._accept_again)
            return
        self._clients.add(_Client(self._reactor, connection, self._hear, self._left))

    def _hear(self, packet: bytes, reply: Callable[[bytes], None]) -> bool:
        self._catch_up()
        return self._ask(self, packet, reply, True)

    def _left(self, client: _Client) -> None:
        self._clients.discard(client)
        self._accept_again()


_Ask = Callable[[_Container, bytes, Callable[[bytes], None], bool], bool]
_Make = Callable[[socket.socket, Server, int, int], socket.socket]


class _Client:
    """A TCP connection from a container: questions with their lengths, answers as they come. Idle ones are closed."""

    def __init__(
        self,
        reactor: Reactor,
        connection: socket.socket,
        ask: Callable[[bytes, Callable[[bytes], None]], bool],
        left: Callable[[_Client], None],
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._ask = ask
        self._left = left
        self._received = bytearray()
        self._unsent = bytearray()
        self._open_questions = 0
        self._at_end = False
        self._events = 0
        self._deadline = reactor.clock() + _FIRST_QUESTION_S
        connection.setblocking(False)
        self._watch()
        reactor.later(_FIRST_QUESTION_S, self._check_idle)

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            if self._events:
                self._reactor.forget(self._connection.fileno())
            self._connection.close()
            self._left(self)

    def _watch(self) -> None:
        if self._connection.fileno() < 0:
            return
        reading = not self._at_end and self._open_questions < _QUESTIONS_OF_A_CONNECTION and len(self._unsent) < _UNSENT_BYTES
        events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if self._unsent else 0)
        if events != self._events:
            if self._events:
                self._reactor.forget(self._connection.fileno())
            if events:
                self._reactor.watch(self._connection.fileno(), events, self._on_event)
            self._events = events
        if self._at_end and not self._open_questions and not self._unsent:
            self.close()

    def _check_idle(self) -> None:
        if self._connection.fileno() < 0:
            return
        remaining_s = self._deadline - self._reactor.clock()
        if remaining_s > 0:
            self._reactor.later(remaining_s, self._check_idle)
        elif self._open_questions:  # it waits for us, and questions end
            self._reactor.later(_NEXT_QUESTION_S, self._check_idle)
        else:
            self.close()

    def _on_event(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT and self._connection.fileno() >= 0:
            self._read()
        self._watch()

    def _read(self) -> None:
        try:
            piece = self._connection.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._received += piece
        self._at_end = not piece
        while len(self._received) >= 2:
            size = 2 + _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < size:
                break
            packet = bytes(self._received[2:size])
            del self._received[:size]
            self._deadline = self._reactor.clock() + _NEXT_QUESTION_S
            self._open_questions += 1
            if not self._ask(packet, self._answer):
                self._open_questions -= 1

    def _answer(self, answer: bytes) -> None:
        self._open_questions -= 1
        if self._connection.fileno() >= 0:
            self._unsent += _LENGTH.pack(len(answer)) + answer
            self._flush()
            self._watch()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close()


class ResolverServer:
    """Containers, names, and the engine's connections."""

    def __init__(self, path: str, listener: socket.socket, first: socket.socket) -> None:
        self._reactor = Reactor()
        self._directory = Directory()
        self._answerer = Answerer(self._directory)
        self._namespaces = _Namespaces()
        self._containers: dict[str, _Container] = {}
        self._announced: dict[str, int] = {}
        self._generation = 0
        self._connections: set[socket.socket] = set()
        self._commands = select.poll()
        self._path = path
        self._ended = False
        self._listener = listener
        self._reactor.watch(self._listener.fileno(), select.EPOLLIN, lambda _: self._add(self._listener.accept()[0]))
        self._add(first)

    def run(self) -> None:
        """Serve until there is nothing more to serve."""
        while not self._ended and (self._connections or self._containers):
            self._reactor.turn()
        for container in self._containers.values():
            container.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    # --- questions ---

    def _ask(self, container: _Container, packet: bytes, reply: Callable[[bytes], None], stream: bool) -> bool:
        """Whether there will be a reply."""
        if self._containers.get(container.container_id) is not container:
            return False  # it was dropped just now
        outcome = self._answerer.answer(packet, container.container_id, container.view, stream=stream)
        if outcome is None:
            return False
        if isinstance(outcome, Forward):
            container.forwarder.ask(packet, reply, stream=stream)
        else:
            reply(outcome)
        return True

    # --- commands ---

    def _catch_up(self) -> None:
        """Obey what has been said by now."""
        if self._commands.poll(0):
            for connection in list(self._connections):
                self._hear(connection)

    def _add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connections.add(connection)
        self._commands.register(connection.fileno(), select.POLLIN)
        self._reactor.watch(connection.fileno(), select.EPOLLIN, lambda _: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        """All that has come."""
        try:
            while (received := receive(connection)) is not None:
                message, _, fds = received
                self._obey(connection, message, fds)
        except BlockingIOError:
            return
        except ConnectionError:
            pass  # the engine was killed: the same as a hang-up
        self._reactor.forget(connection.fileno())
        self._commands.unregister(connection.fileno())
        self._connections.discard(connection)
        connection.close()

    def _obey(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        wish = message.get("op")
        if wish == "serve":
            self._serve(str(message["id"]), View.from_message(message["view"]), fds)
        elif wish == "view":
            container = self._containers.get(str(message["id"]))
            if container is not None:
                container.see(View.from_message(message["view"]))
                container.generation = self._generation
        elif wish == "drop":
            self._drop(message["ids"])
        elif wish == "announce":
            for values in message["endpoints"]:
                endpoint = NamedEndpoint.from_list(values)
                self._directory.announce(endpoint)
                self._announced[endpoint.endpoint_id] = self._generation
        elif wish == "withdraw":
            self._withdraw(message["ids"])
        elif wish == "begin":
            self._generation += 1
        elif wish == "finish":
            self._drop([key for key, container in self._containers.items() if container.generation != self._generation])
            self._withdraw([key for key, generation in self._announced.items() if generation != self._generation])
        elif wish == "list":
            self._list(connection)
        elif wish == "end":
            self._ended = True
            for other in self._connections:
                with contextlib.suppress(OSError):  # whoever doesn't read learns it by the hang-up
                    send(other, {"ended": True})
        self._answerer.forget()

    def _serve(self, container_id: str, view: View, fds: list[int]) -> None:
        self._drop([container_id])
        sockets = (socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]))
        container = _Container(
            self._reactor, container_id, sockets, view, self._ask, self._catch_up, self._namespaces.open_socket
        )
        container.generation = self._generation
        self._containers[container_id] = container

    def _drop(self, ids: list[str]) -> None:
        for container_id in ids:
            container = self._containers.pop(container_id, None)
            if container is not None:
                container.close()

    def _withdraw(self, ids: list[str]) -> None:
        for endpoint_id in ids:
            self._directory.withdraw(endpoint_id)
            self._announced.pop(endpoint_id, None)

    def _list(self, connection: socket.socket) -> None:
        containers = list(self._containers.values())
        connection.setblocking(True)
        for start in range(0, len(containers) + 1, _CONTAINERS_A_PACKET):
            part = containers[start : start + _CONTAINERS_A_PACKET]
            ids = [container.container_id for container in part]
            answer: Message = {"ids": ids, "more": start + _CONTAINERS_A_PACKET < len(containers) + 1}
            send(connection, answer, fds=[fd for container in part for fd in container.descriptors])
        connection.setblocking(False)


def serve(fd: int, listener_fd: int, path: str) -> None:
    """Be the resolver process, with the engine's connection and what others connect to at ``path``; returns at its end."""
    import resource

    syscalls.set_name("kitepy-resolver")
    syscalls.set_not_dumpable()
    for number in (1, 2, 15):
        # A signal to the engine's group or session must not take the names from containers that go on.
        syscalls.ignore_signal(number)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _give_up_rights()
    ResolverServer(path, socket.socket(fileno=listener_fd), socket.socket(fileno=fd)).run()


def _give_up_rights() -> None:
    """What packets of containers come to may make sockets in their network namespaces, and nothing else that root may."""
    keep = capabilities.mask(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]) & capabilities.own_permitted()
    capabilities.limit_bounding(keep, capabilities.last_capability())
    capabilities.set_sets(keep, keep, 0)
    syscalls.set_no_new_privileges()

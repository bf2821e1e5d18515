"""The engine's side of the resolver process (``resolver_server``): start it, tell it what changes, replace it when it dies.

What the process should know is kept here as well. When it ends without having been asked to, a thread that listens for that
starts another and tells it everything again. The sockets are kept here, too, so that questions wait for it meanwhile.
Commands aren't answered, so they cost the caller one packet; it takes what they say before the next question. They may come
from several threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kitepy.engine.kernel.packets import MAX_PACKET, Message, encode_json, receive, send
from kitepy.engine.network.helper_process import ANSWER_TIMEOUT_S, PACKAGE_ROOT, find_helper, receive_answer, start_helper
from kitepy.engine.network.resolver_names import NamedEndpoint, View
from kitepy.engine.network.resolver_redirect import ResolverSockets, prepare_resolver

logger = logging.getLogger(__name__)

_PART_BYTES = MAX_PACKET // 2
_MOST_RESTARTS = 5
_RESTARTS_WITHIN_S = 60.0
# The process gets dnspython and nothing else of site-packages: its directory may hold .pth files and would let any package
# stand in for a module of the standard library.
_CODE = """
import sys
from importlib.machinery import PathFinder
class OnlyDns:
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [sys.argv[4]]) if name == "dns" else None
sys.meta_path.append(OnlyDns)
sys.path.insert(0, sys.argv[5])
from kitepy.engine.network.resolver_server import serve
serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


@dataclass
class _Served:
    """A container that should be served."""

    sockets: ResolverSockets
    view: View


class ResolverProcess:
    """The name service of one engine's containers. Methods block for a packet; none raises when the process has ended."""

    def __init__(self, exec_root: Path) -> None:
        self._path = exec_root / "resolver.sock"
        self._lock = threading.RLock()
        self._channel: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._served: dict[str, _Served] = {}
        self._endpoints: dict[str, NamedEndpoint] = {}
        self._adopted: dict[str, ResolverSockets] = {}
        self._restarts: list[float] = []

    # --- what containers get ---

    def warm(self) -> None:
        """Start the process now, if it isn't there, so that the first container doesn't wait. Raises OSError."""
        with self._lock:
            self._connected()

    def serve(self, container_id: str, netns_fd: int, view: View, prepared: ResolverSockets | None = None) -> None:
        """Answer a container from now on; ``prepared`` becomes ours, without it sockets are made in the namespace.

        A container that an adopted process serves keeps its sockets. The namespace's descriptor stays the caller's.
        Raises OSError.
        """
        with self._lock:
            adopted = self._adopted.pop(container_id, None)
            if adopted is None:
                self._connected()  # before this one is known, so that a new process isn't told of it twice
            self._forget(container_id)
            if adopted is not None and prepared is None:
                self._served[container_id] = _Served(adopted, view)
                self._tell({"op": "view", "id": container_id, "view": view.to_message()})
                return
            if adopted is not None:
                adopted.close()
            served = self._served[container_id] = _Served(prepared or prepare_resolver(netns_fd), view)
            self._send_serve(container_id, served)

    def view(self, container_id: str, view: View) -> None:
        """What a container that is served sees from now on. Raises OSError."""
        with self._lock:
            if container_id in self._served:
                self._served[container_id].view = view
                self._tell({"op": "view", "id": container_id, "view": view.to_message()})

    def drop(self, container_id: str) -> None:
        """Answer a container no more. Idempotent. Raises OSError."""
        with self._lock:
            if self._forget(container_id):
                self._tell({"op": "drop", "ids": [container_id]})

    def announce(self, endpoints: Iterable[NamedEndpoint]) -> None:
        """These are the names and addresses of endpoints from now on, whatever they were before. Raises OSError."""
        with self._lock:
            told = list(endpoints)
            self._endpoints |= {endpoint.endpoint_id: endpoint for endpoint in told}
            self._announce(told)

    def withdraw(self, endpoint_ids: Iterable[str]) -> None:
        """Names of endpoints that are gone. Idempotent. Raises OSError."""
        with self._lock:
            known = [endpoint_id for endpoint_id in endpoint_ids if self._endpoints.pop(endpoint_id, None) is not None]
            if known:
                self._tell({"op": "withdraw", "ids": known})

    # --- from engine to engine ---

    def held(self) -> set[str]:
        """The containers that a former engine's process serves; it is ours from now on. Empty when there is none.

        Call ``serve`` and ``announce`` for all that is still there, then ``finish_adoption``. Raises OSError.
        """
        with self._lock:
            channel = find_helper(self._path)
            if channel is None:
                return set()
            self._use(channel)
            send(channel, {"op": "begin"})
            send(channel, {"op": "list"})
            more: object = True
            while more:
                answer, fds = receive_answer(channel)
                ids = answer["ids"]
                assert isinstance(ids, list)
                found = [socket.socket(fileno=fd) for fd in fds]
                for container_id, udp, tcp in zip(ids, found[::2], found[1::2], strict=True):
                    self._adopted[str(container_id)] = ResolverSockets(udp, tcp)
                more = answer["more"]
            return set(self._adopted)

    def finish_adoption(self) -> None:
        """Everything has been told: the process forgets what wasn't. Raises OSError."""
        with self._lock:
            if self._channel is not None:
                self._tell({"op": "finish"})
            self._let_go_of_adopted()

    def end(self) -> None:
        """Stop the process, if there is one, and wait for its end when it is ours."""
        with self._lock:
            channel = self._channel
            self._channel = None
            if channel is not None:
                try:
                    send(channel, {"op": "end"})
                    receive_answer(channel)
                except OSError as error:
                    logger.warning("the resolver process did not answer: %s", error)
                channel.shutdown(socket.SHUT_RDWR)
            self._let_go()
            if self._child is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Leave the process to itself: it goes on while it serves anything."""
        with self._lock:
            channel = self._channel
            self._channel = None
            if channel is not None:
                channel.shutdown(socket.SHUT_RDWR)
            self._let_go()

    # --- the process ---

    def _let_go(self) -> None:
        for container_id in list(self._served):
            self._forget(container_id)
        self._let_go_of_adopted()

    def _let_go_of_adopted(self) -> None:
        for sockets in self._adopted.values():
            sockets.close()
        self._adopted.clear()

    def _forget(self, container_id: str) -> bool:
        served = self._served.pop(container_id, None)
        if served is not None:
            served.sockets.close()
        return served is not None

    def _send_serve(self, container_id: str, served: _Served) -> None:
        message: Message = {"op": "serve", "id": container_id, "view": served.view.to_message()}
        self._tell(message, [served.sockets.udp.fileno(), served.sockets.tcp.fileno()])

    def _announce(self, endpoints: list[NamedEndpoint]) -> None:
        part: list[list[object]] = []
        part_bytes = 0
        for endpoint in endpoints:
            values = endpoint.to_list()
            size_bytes = len(encode_json(values))
            if part and part_bytes + size_bytes > _PART_BYTES:
                self._tell({"op": "announce", "endpoints": part})
                part, part_bytes = [], 0
            part.append(values)
            part_bytes += size_bytes
        if part:
            self._tell({"op": "announce", "endpoints": part})

    def _tell(self, message: Message, fds: list[int] | None = None) -> None:
        """A process that is just dying hears nothing: the one that replaces it is told everything."""
        channel = self._connected()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send(channel, message, fds=fds or [])

    def _connected(self) -> socket.socket:
        if self._channel is None:
            self._use(self._start())
            self._tell_everything()
        assert self._channel is not None
        return self._channel

    def _use(self, channel: socket.socket) -> None:
        self._channel = channel
        threading.Thread(target=self._watch, args=(channel,), name="resolver watch", daemon=True).start()

    def _start(self) -> socket.socket:
        found = find_spec("dns")
        if found is None or not found.submodule_search_locations:
            raise FileNotFoundError(2, "dnspython is not installed, without which containers find each other by address only")
        site = str(Path(next(iter(found.submodule_search_locations))).parent)
        # Listening before the process is there: who looks for it now waits for it instead of missing it.
        with self._listen() as listener:
            arguments = [str(listener.fileno()), str(self._path), site, str(PACKAGE_ROOT)]
            channel, self._child = start_helper(_CODE, arguments, [listener.fileno()])
        return channel

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            # The mode of the file to come: the umask is every thread's.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(str(self._path))
            listener.listen(4)
        except OSError:
            listener.close()
            raise
        return listener

    def _watch(self, channel: socket.socket) -> None:
        """A thread of its own for each process: returns at its end, or ours."""
        with channel:
            poll = select.poll()
            poll.register(channel.fileno(), select.POLLRDHUP)
            poll.poll()
            with self._lock:
                if self._channel is not channel:
                    return  # we ended it, or left it
                self._channel = None
                if self._child is not None:
                    self._child.poll()
                if _was_ended(channel):
                    self._let_go()
                else:
                    self._replace()

    def _replace(self) -> None:
        """Called with the lock, after the process has ended unasked."""
        if not self._served and not self._endpoints:
            return
        now = time.monotonic()
        self._restarts = [moment for moment in self._restarts if now - moment < _RESTARTS_WITHIN_S] + [now]
        if len(self._restarts) > _MOST_RESTARTS:
            logger.error(
                "the resolver process ended %d times within a minute; it starts again with the next container", _MOST_RESTARTS
            )
            return
        logger.warning("the resolver process has ended; starting another")
        try:
            self._connected()
        except OSError as error:
            logger.error("the resolver process can't be started again: %s", error)

    def _tell_everything(self) -> None:
        self._announce(list(self._endpoints.values()))
        for container_id, served in list(self._served.items()):
            self._send_serve(container_id, served)


def _was_ended(channel: socket.socket) -> bool:
    """Whether somebody else has ended the process on purpose: it says so before it hangs up."""
    channel.setblocking(False)
    try:
        return receive(channel) is not None
    except OSError:
        return False

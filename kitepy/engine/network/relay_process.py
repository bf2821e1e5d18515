"""The engine's side of the relay process (``relay_server``): start it when it is first needed, or find a former engine's.

Calls block for as long as one packet there and back takes, and are made by one thread at a time.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from kitepy.engine.kernel.packets import Message, send
from kitepy.engine.model.network import PublishedPort
from kitepy.engine.network.helper_process import ANSWER_TIMEOUT_S, PACKAGE_ROOT, find_helper, receive_answer, start_helper
from kitepy.engine.network.relay_server import FDS_A_PACKET

logger = logging.getLogger(__name__)

_CODE = (
    f"import sys; sys.path.insert(0, {str(PACKAGE_ROOT)!r});"
    " from kitepy.engine.network.relay_server import serve; serve(int(sys.argv[1]), sys.argv[2])"
)


def key_of(port: PublishedPort) -> str:
    """The name of a published port among relays."""
    return f"{port.protocol}/{port.host_ip}/{port.host_port}"


class RelayProcess:
    """All relays of one engine. Raises OSError when the process can't be started or doesn't answer."""

    def __init__(self, exec_root: Path) -> None:
        self._path = exec_root / "relay.sock"
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def held(self) -> dict[str, socket.socket]:
        """The sockets that a former engine's process serves, by key; the caller owns the copies. Empty when there is none."""
        with self._lock:
            channel = find_helper(self._path)
            if channel is None:
                return {}
            self._channel = channel
            found: dict[str, socket.socket] = {}
            send(channel, {"op": "list"})
            more: object = True
            while more:
                answer, fds = receive_answer(channel)
                keys = answer["keys"]
                assert isinstance(keys, list)
                found |= {str(key): socket.socket(fileno=fd) for key, fd in zip(keys, fds, strict=True)}
                more = answer["more"]
            return found

    def serve(self, port: PublishedPort, bound: socket.socket, target: tuple[str, int]) -> None:
        """Relay a bound socket to a container's address; the caller keeps its own copy."""
        self.serve_all([(port, bound, target)])

    def serve_all(self, ports: Sequence[tuple[PublishedPort, socket.socket, tuple[str, int]]]) -> None:
        """Many of them, in few packets."""
        for start in range(0, len(ports), FDS_A_PACKET):
            part = ports[start : start + FDS_A_PACKET]
            message: Message = {
                "op": "serve",
                "relays": [{"key": key_of(port), "target": list(target)} for port, _, target in part],
            }
            self._ask(message, [bound.fileno() for _, bound, _ in part], start=True)

    def drop(self, keys: Iterable[str]) -> None:
        """Stop relaying; afterwards the process holds these sockets no more."""
        for_one_packet = list(keys)
        while part := for_one_packet[:500]:
            del for_one_packet[:500]
            self._ask({"op": "drop", "keys": part}, [], start=False)

    def end(self) -> None:
        """Stop the process, if there is one, and wait for its end when it is ours."""
        try:
            self._ask({"op": "end"}, [], start=False)
        except OSError as error:
            logger.warning("the relay process did not answer: %s", error)
        self.close()
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Leave the process to itself: it goes on while it serves anything."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _ask(self, message: Message, fds: list[int], *, start: bool) -> None:
        with self._lock:
            if self._channel is None:
                if not start:
                    return
                self._channel, self._child = start_helper(_CODE, [str(self._path)])
            try:
                send(self._channel, message, fds=fds)
                receive_answer(self._channel)
            except OSError:
                # What it served is lost; the next port gets a new process.
                self._channel.close()
                self._channel = None
                raise

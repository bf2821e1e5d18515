"""What the engine may ask of a monitor, and the answers; the connections are left to ``control``.

A request is ``{"op": ..., "seq": ...}`` with what the operation needs. Its answer carries the same ``seq`` and, when it failed,
``error`` (``gone``, ``paused``, ``start``, ``system``, ``unsupported`` or ``fault``) with a ``message``.
"""

from __future__ import annotations

import os
from _socket import socket

from kitepy.engine.kernel import tty
from kitepy.engine.kernel.packets import Message, error_text
from kitepy.engine.model.errors import EngineError
from kitepy.engine.runtime import attach as streams
from kitepy.engine.runtime.attachments import Attachments
from kitepy.engine.runtime.container import Container
from kitepy.engine.runtime.control import Controls
from kitepy.engine.runtime.execs import Execs
from kitepy.engine.runtime.logfile import STDERR, STDOUT, JsonFileLog, NoLog
from kitepy.engine.runtime.output import Outputs


class Requests:
    """Carries out requests on the parts of one monitor."""

    def __init__(
        self,
        controls: Controls,
        container: Container,
        execs: Execs,
        attachments: Attachments,
        outputs: Outputs,
        log: JsonFileLog | NoLog,
    ) -> None:
        self._controls = controls
        self._container = container
        self._execs = execs
        self._attachments = attachments
        self._outputs = outputs
        self._log = log

    def serve(self, fd: int) -> None:
        """Read one request from a control connection and answer it."""
        request = self._controls.receive(fd)
        if request is None:
            return
        control, (message, payload, fds) = request
        try:
            reply = self._answer(control, message, payload, fds)
        except EngineError as error:
            reply = {"error": "unsupported", "message": str(error)}
        except OSError as error:
            reply = {"error": "gone" if error.errno == 3 else "system", "message": error_text(error)}
        except (KeyError, TypeError, ValueError) as error:
            reply = {"error": "fault", "message": f"{type(error).__name__}: {error}"}
        if reply is not None:
            self._controls.tell(control, {"seq": message.get("seq"), **reply})

    def _answer(self, control: socket, message: Message, payload: bytes, fds: list[int]) -> Message | None:
        """Carry out one request; None when the answer comes later. Descriptors not taken over are closed."""
        operation = message.get("op")
        if operation == "attach":
            if not message.get("replay"):
                self._attachments.add(message, fds[0])
                return {}
            # What is in the log by now the client reads there; what follows it gets here, beginning with unfinished lines.
            rest = [(kind, self._log.pending(name)) for name, kind in ((STDOUT, streams.STDOUT), (STDERR, streams.STDERR))]
            self._attachments.add(message, fds[0], rest)
            return {"log_end": self._log.end()}
        if operation == "exec":
            return self._execs.start(control, message, payload, fds)
        for fd in fds:
            os.close(fd)
        if operation == "status":
            return self._container.status(self._log.lost_bytes)
        if operation == "keep":
            self._controls.keep()
            return None
        if operation == "signal":
            self._container.send_signal(_integer(message["number"]))
            return {}
        if operation == "resize":
            if self._outputs.terminal_fd >= 0:
                tty.set_size(self._outputs.terminal_fd, _integer(message["rows"]), _integer(message["columns"]))
            return {}
        if operation in ("pause", "unpause"):
            self._container.set_paused(operation == "pause")
            return {}
        if operation == "update":
            resources = message["resources"]
            assert isinstance(resources, dict)
            self._container.update(resources)
            return {}
        if operation == "exec-signal":
            if self._execs.send_signal(message["exec_id"], _integer(message["number"])):
                return {}
            return {"error": "gone", "message": f"no running exec {message['exec_id']}"}
        return {"error": "fault", "message": f"unknown request {operation!r}"}


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value

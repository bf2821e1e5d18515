"""The execs of one container: starting them, telling who asked of their start and end; forking them is left to ``children``."""

from __future__ import annotations

import os
import select
import time
from _socket import socket

from kitepy.engine.kernel import namespaces
from kitepy.engine.kernel.packets import Message, receive
from kitepy.engine.runtime.children import ExecChild, spawn_exec
from kitepy.engine.runtime.container import Container
from kitepy.engine.runtime.control import Controls
from kitepy.engine.runtime.watch import READ


class Execs:
    """Processes that joined the container. ``fd in execs`` and ``serve`` cover those that run and those on their way."""

    def __init__(self, epoll: select.epoll, container: Container, controls: Controls) -> None:
        self._epoll = epoll
        self._container = container
        self._controls = controls
        self._running: dict[int, ExecChild] = {}
        """By pidfd."""
        self._starting: dict[int, ExecChild] = {}
        """By the descriptor of the channel that closes when the user's program is executed."""

    def __contains__(self, fd: int) -> bool:
        return fd in self._running or fd in self._starting

    def serve(self, fd: int) -> None:
        """An exec has ended, or comes on with its start."""
        if fd in self._running:
            self._ended(self._running[fd])
        else:
            self._go_on_starting(self._starting[fd])

    def start(self, control: socket, message: Message, payload: bytes, fds: list[int]) -> Message | None:
        """Fork an exec; None: the answer comes when it executes its program. Takes over the descriptors."""
        if self._container.paused:
            for fd in fds:
                os.close(fd)
            return {"error": "paused", "message": "container is paused, unpause the container before exec"}
        process = message["process"]
        assert isinstance(process, dict)
        child = spawn_exec(
            process,
            self._container.machine,
            self._container.first.pidfd,
            self._container.plan,
            payload,
            fds,
            str(message["exec_id"]),
        )
        child.control = control
        child.sequence = message.get("seq")
        assert child.channel is not None
        child.channel.setblocking(False)
        self._starting[child.channel.fileno()] = child
        self._epoll.register(child.channel.fileno(), READ)
        return None

    def send_signal(self, exec_id: object, number: int) -> bool:
        """Signal a running exec; False when there is none of that id."""
        for child in self._running.values():
            if child.exec_id == exec_id:
                namespaces.pidfd_send_signal(child.pidfd, number)
                return True
        return False

    def finish(self) -> None:
        """The container has ended, and with it all execs: tell who asked for them."""
        for child in [*self._starting.values()]:
            child.kill_and_reap()
            if child.control is not None:
                gone: Message = {"seq": child.sequence, "error": "gone", "message": "the container has stopped"}
                self._controls.tell(child.control, gone)
        for child in [*self._running.values()]:
            self._ended(child)

    def _go_on_starting(self, child: ExecChild) -> None:
        channel = child.channel
        assert channel is not None
        assert child.control is not None
        try:
            received = receive(channel)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is not None and "failed" not in received[0]:
            child.terminal_fds += received[2]
            return
        del self._starting[channel.fileno()]
        self._epoll.unregister(channel.fileno())
        channel.close()
        child.channel = None
        if received is not None:
            child.kill_and_reap()
            self._controls.tell(child.control, {"seq": child.sequence, "error": "start", **received[0]})
        else:
            self._controls.tell(child.control, {"seq": child.sequence, "pid": child.pid}, tuple(child.terminal_fds))
            self._running[child.pidfd] = child
            self._epoll.register(child.pidfd, READ)
        for fd in child.terminal_fds:
            os.close(fd)
        child.terminal_fds = []

    def _ended(self, child: ExecChild) -> None:
        code = child.reap()
        del self._running[child.pidfd]
        self._epoll.unregister(child.pidfd)
        os.close(child.pidfd)
        assert child.control is not None
        event: Message = {"event": "exec-exit", "exec_id": child.exec_id, "code": code, "finished_at_ns": time.time_ns()}
        self._controls.tell(child.control, event)

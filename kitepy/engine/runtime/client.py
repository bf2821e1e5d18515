"""The engine's view of running containers: start, adopt after a restart, signal, attach, exec. asyncio, on one loop.

What happens inside a container is the monitor's business (``monitor.py``); this module sends it requests over its control socket
and turns its answers into the engine's errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kitepy.engine.kernel import packets
from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.processes import kill_if_same
from kitepy.engine.model.errors import Conflict, EngineError, StartFailed, SystemFailure, Unsupported
from kitepy.engine.model.launch import ExitReason, ExitStatus, LaunchRequest
from kitepy.engine.runtime import channel
from kitepy.engine.runtime.launcher import LauncherHandle
from kitepy.engine.runtime.streams import AttachStream, AttachWish, DescriptorStream, MonitorStream, StreamKind

logger = logging.getLogger(__name__)

_START_PREFIX = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
_EXEC_PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "
_LOST_CODE = 137
_SIGKILL = 9


@dataclass(frozen=True)
class ExecRequest:
    """One more process in a running container; ``process`` is an OCI process object."""

    exec_id: str
    process: dict[str, object]
    seccomp_program: bytes = b""
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(frozen=True)
class Inventory:
    """What an earlier engine left in the exec root: for reconciling with the database."""

    live: tuple[str, ...] = ()
    """Containers whose monitor answers."""
    ended: tuple[str, ...] = ()
    """Containers whose exit status is on disk."""
    lost: tuple[str, ...] = ()
    """Containers with neither: their monitor was killed."""
    empty: tuple[str, ...] = field(default=())
    """Directories in which nothing was ever started."""


class Runtime:
    """Starts containers through the launcher. ``close`` lets go of all of them; they go on running."""

    def __init__(self, launcher: LauncherHandle, exec_root: Path, cgroups: CgroupDriver) -> None:
        self._launcher = socket.socket(fileno=launcher.fd)
        self._launcher.setblocking(False)
        self._launcher_lock = asyncio.Lock()
        self._exec_root = exec_root
        self._cgroups = cgroups
        self._containers: set[RunningContainer] = set()

    async def start(self, request: LaunchRequest, attach: Sequence[AttachWish] = ()) -> RunningContainer:
        """Start a container; returns when its process 1 executes the program.

        ``attach``: attachments that are in place before process 1 exists, so they miss nothing; they are in ``attached`` of the
        result, in the same order. Raises StartFailed (the program can't be executed), Unsupported (a limit this kernel lacks) or
        SystemFailure; then nothing is left running, and ``state_dir`` keeps only ``monitor.log``. When cancelled, the monitor
        notices that its starter has gone and ends the container, whether it runs already or not.
        """
        request.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if request.rootfs is not None:
            (request.bundle / "rootfs").mkdir(exist_ok=True)
        ours, theirs = channel.new_pair()
        pairs = [channel.new_pair() for _ in attach]
        message, fds = _launch_message(request, attach, theirs.fileno(), [pair[1].fileno() for pair in pairs])
        try:
            try:
                await channel.send(self._launcher, message, request.seccomp_program, fds, self._launcher_lock)
            except OSError as error:
                raise SystemFailure(f"the launcher is gone, the engine must be restarted: {error}") from error
            finally:
                theirs.close()
                for _, their_end in pairs:
                    their_end.close()
            answer = await _receive(ours)
            if answer is None:
                raise SystemFailure(f"the monitor of {request.container_id} ended early, see {request.state_dir}/monitor.log")
            reply, _ = answer
            if reply.get("event") != "started":
                raise _start_error(reply)
            with contextlib.suppress(OSError):  # it may have ended already; then its exit is what comes next
                await channel.send(ours, {"op": "keep"})
        except BaseException:
            # A monitor whose starter hangs up before "keep" gives up.
            ours.close()
            for our_end, _ in pairs:
                our_end.close()
            raise
        container = self._add(request.container_id, request.state_dir, ours, reply)
        container.attached = tuple(MonitorStream(our_end) for our_end, _ in pairs)
        return container

    async def adopt(self, container_id: str, state_dir: Path) -> RunningContainer | ExitStatus:
        """Find a container that an earlier engine started: still running, ended since, or lost (then the remains are killed)."""
        connection = connect_monitor(state_dir)
        if connection is not None:
            try:
                await channel.send(connection, {"op": "status", "seq": 0})
                answer = await _receive(connection)
                while answer is not None and answer[0].get("seq") != 0:
                    answer = await _receive(connection)
            except OSError:
                answer = None
            if answer is not None:
                return self._add(container_id, state_dir, connection, answer[0])
            connection.close()
        return read_exit_status(state_dir) or self._bury(container_id, state_dir)

    def inventory(self) -> Inventory:
        """What is in the exec root."""
        found: dict[str, list[str]] = {"live": [], "ended": [], "lost": [], "empty": []}
        directory = self._exec_root / "containers"
        for entry in sorted(directory.iterdir()) if directory.is_dir() else []:
            connection = connect_monitor(entry)
            if connection is not None:
                connection.close()
                found["live"].append(entry.name)
            elif (entry / "exit.json").exists():
                found["ended"].append(entry.name)
            elif (entry / "status.json").exists():
                found["lost"].append(entry.name)
            else:
                found["empty"].append(entry.name)
        return Inventory(*(tuple(found[key]) for key in ("live", "ended", "lost", "empty")))

    async def close(self) -> None:
        """Let go of launcher and monitors. Running containers go on; their ``exited`` futures are cancelled."""
        for container in list(self._containers):
            container.release()
        self._launcher.close()

    def _add(self, container_id: str, state_dir: Path, connection: socket.socket, status: packets.Message) -> RunningContainer:
        def lost() -> ExitStatus:
            return read_exit_status(state_dir) or self._bury(container_id, state_dir)

        container = RunningContainer(container_id, state_dir, connection, status, lost)
        self._containers.add(container)
        container.exited.add_done_callback(lambda _: self._containers.discard(container))
        return container

    def _bury(self, container_id: str, state_dir: Path) -> ExitStatus:
        """A container whose monitor was killed can't be ruled or logged any more: end what is left of it."""
        status = _read_json(state_dir / "status.json") or {}
        path = str(status.get("cgroup_path") or f"/kitepy/{container_id}")
        if self._cgroups.version:
            self._cgroups.kill(path)
        else:
            # Only process 1 is known; with it goes everything in its PID namespace.
            kill_if_same(int(str(status.get("pid") or 0)), int(str(status.get("pid_started") or 0)))
        for _ in range(100):
            try:
                self._cgroups.remove(path)
                break
            except OSError:
                time.sleep(0.002)  # the processes are just leaving
        return ExitStatus(_LOST_CODE, time.time_ns(), reason=ExitReason.LOST)


class RunningContainer:
    """A container with a live monitor."""

    def __init__(
        self,
        container_id: str,
        state_dir: Path,
        connection: socket.socket,
        status: packets.Message,
        lost: Callable[[], ExitStatus],
    ) -> None:
        self.container_id = container_id
        self.state_dir = state_dir
        self.pid = int(str(status["pid"]))
        self.monitor_pid = int(str(status["monitor_pid"]))
        self.pid_started = int(str(status.get("pid_started", 0)))
        """When it started, in clock ticks since the machine did: tells it from a successor with the same number."""
        self.started_at_ns = int(str(status["started_at_ns"]))
        self.cgroup_path = str(status["cgroup_path"])
        self.paused = bool(status.get("paused"))
        """As of the last ``pause`` or ``unpause`` through this object."""
        self.out_of_memory = bool(status.get("oom"))
        """Whether memory ran out since the start."""
        self.on_oom: Callable[[], None] = lambda: None
        """Called each time that memory runs out; to be set by who wants to know."""
        self.attached: tuple[AttachStream, ...] = ()
        """The attachments asked for with ``Runtime.start``."""
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[ExitStatus] = self._loop.create_future()
        """Resolved once, after all output is in the log; cancelled when the runtime is closed."""
        self._connection = connection
        self._lost = lost
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[tuple[packets.Message, list[int]]]] = {}
        self._execs: dict[str, asyncio.Future[ExitStatus]] = {}
        self._loop.add_reader(connection.fileno(), self._on_readable)
        if status.get("lost_log_bytes"):
            self._warn_of_losses()

    async def signal(self, number: int) -> None:
        """Send a signal to process 1; Conflict when it has ended."""
        await self._request({"op": "signal", "number": number})

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; without a terminal nothing happens."""
        await self._request({"op": "resize", "rows": rows, "columns": columns})

    async def pause(self) -> None:
        """Freeze all processes; returns when they stand still."""
        await self._request({"op": "pause"})
        self.paused = True

    async def unpause(self) -> None:
        """Let the processes go on."""
        await self._request({"op": "unpause"})
        self.paused = False

    async def update_limits(self, resources: dict[str, object]) -> None:
        """Change limits (``linux.resources`` of an OCI document); what is left out stays."""
        await self._request({"op": "update", "resources": resources})

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool, replay: bool = False) -> AttachStream:
        """Connect to the process's streams; output from now on.

        With ``replay``, from where the log ended then, which is the stream's ``log_end``: the log up to there and the stream are
        the whole output.
        """
        ours, theirs = channel.new_pair()
        message: packets.Message = {"op": "attach", "stdin": stdin, "stdout": stdout, "stderr": stderr, "replay": replay}
        try:
            reply, _ = await self._request(message, fds=(theirs.fileno(),))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        stream = MonitorStream(ours)
        if isinstance(end := reply.get("log_end"), list):
            stream.log_end = (end[0], end[1])
        return stream

    async def exec(self, request: ExecRequest) -> RunningExec:
        """Run one more process; returns when it executes its program. Raises StartFailed, Conflict, SystemFailure."""
        terminal = bool(request.process.get("terminal"))
        pipes = None if terminal else _ExecPipes(request)
        exited: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._execs[request.exec_id] = exited
        message: packets.Message = {"op": "exec", "exec_id": request.exec_id, "process": request.process}
        try:
            reply, fds = await self._request(message, request.seccomp_program, pipes.child_fds if pipes else ())
        except BaseException:
            del self._execs[request.exec_id]
            if pipes is not None:
                pipes.close_own()
            raise
        finally:
            if pipes is not None:
                pipes.close_child()
        if pipes is None:
            outputs, stdin_fd = {fds[0]: StreamKind.STDOUT}, fds[0]
        else:
            outputs, stdin_fd = pipes.outputs, pipes.stdin_fd
        return RunningExec(self, request.exec_id, int(str(reply["pid"])), exited, outputs, stdin_fd, is_terminal=terminal)

    async def signal_exec(self, exec_id: str, number: int) -> None:
        """Send a signal to an exec's process; Conflict when it has ended."""
        await self._request({"op": "exec-signal", "exec_id": exec_id, "number": number})

    def release(self) -> None:
        """Stop watching; the container goes on. Pending requests fail, ``exited`` is cancelled."""
        self._disconnect()
        self.exited.cancel()
        for future in self._execs.values():
            future.cancel()

    # --- the control connection ---

    async def _request(
        self, message: packets.Message, payload: bytes = b"", fds: Sequence[int] = ()
    ) -> tuple[packets.Message, list[int]]:
        if self.exited.done() or self._connection.fileno() < 0:
            raise Conflict(f"container {self.container_id} is not running")
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[tuple[packets.Message, list[int]]] = self._loop.create_future()
        self._waiting[sequence] = answer
        try:
            try:
                await channel.send(self._connection, {**message, "seq": sequence}, payload, fds, self._lock)
            except ValueError as error:
                raise SystemFailure(f"container {self.container_id}: {error}") from error
            except OSError as error:
                raise Conflict(f"container {self.container_id} is not running") from error
            reply, received = await answer
        finally:
            self._waiting.pop(sequence, None)
        if "error" in reply:
            raise self._error(reply)
        return reply, received

    def _error(self, reply: packets.Message) -> EngineError:
        kind, text = reply["error"], str(reply.get("message", ""))
        if kind == "gone":
            return Conflict(f"container {self.container_id} is not running")
        if kind == "paused":
            return Conflict(f"Container {self.container_id} is paused, unpause the container before exec")
        if kind == "unsupported":
            return Unsupported(text)
        if kind == "start":
            return _start_error(reply, _EXEC_PREFIX)
        return SystemFailure(f"container {self.container_id}: {text}")

    def _on_readable(self) -> None:
        while self._connection.fileno() >= 0:
            try:
                received = packets.receive(self._connection)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # the monitor left a request unread; the error is reported once, then comes what it had sent
            except (OSError, ValueError):
                received = None
            if received is None:
                self._on_end()
                return
            message, _, fds = received
            sequence = message.get("seq")
            answer = self._waiting.get(sequence) if isinstance(sequence, int) else None
            if answer is not None and not answer.done():
                answer.set_result((message, fds))
                continue
            for fd in fds:
                os.close(fd)
            if message.get("event") == "exec-exit":
                future = self._execs.pop(str(message["exec_id"]), None)
                if future is not None and not future.done():
                    future.set_result(ExitStatus(int(str(message["code"])), int(str(message["finished_at_ns"]))))
            elif message.get("event") == "oom":
                self.out_of_memory = True
                self.on_oom()
            elif message.get("event") == "log-lost":
                self._warn_of_losses()
            elif message.get("event") == "exit":
                self._resolve(_exit_status(message))
                return

    def _warn_of_losses(self) -> None:
        logger.warning("container %s: its log can't be written (is the disk full?), lines are lost", self.container_id)

    def _on_end(self) -> None:
        """The connection ended without an exit event: reconnect if the monitor lives, else look for its testament."""
        again = connect_monitor(self.state_dir)
        if again is None:
            self._resolve(self._lost())
            return
        self._disconnect()
        self._connection = again
        self._loop.add_reader(again.fileno(), self._on_readable)

    def _resolve(self, status: ExitStatus) -> None:
        self._disconnect()
        for future in self._execs.values():
            if not future.done():
                future.set_result(ExitStatus(_LOST_CODE, status.finished_at_ns))
        self._execs.clear()
        if not self.exited.done():
            self.exited.set_result(status)

    def _disconnect(self) -> None:
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Conflict(f"container {self.container_id} is not running"))


class RunningExec(DescriptorStream):
    """An exec's process and its streams. ``exited`` is resolved when it has ended; ``read`` gives what it still has written."""

    def __init__(
        self,
        container: RunningContainer,
        exec_id: str,
        pid: int,
        exited: asyncio.Future[ExitStatus],
        outputs: dict[int, StreamKind],
        stdin_fd: int,
        *,
        is_terminal: bool,
    ) -> None:
        super().__init__(outputs, stdin_fd, exited)
        self.exec_id = exec_id
        self.pid = pid
        """As the host numbers it."""
        self.exited = exited
        self._container = container
        self._terminal_fd = stdin_fd if is_terminal else -1

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; without a terminal nothing happens."""
        from kitepy.engine.kernel.tty import set_size

        if self._terminal_fd in self._outputs:
            set_size(self._terminal_fd, rows, columns)

    async def signal(self, number: int) -> None:
        """Send a signal to the process; Conflict when it has ended."""
        await self._container.signal_exec(self.exec_id, number)


class _ExecPipes:
    """The pipes between engine and an exec's process; a stream nobody wants leads to the null device."""

    def __init__(self, request: ExecRequest) -> None:
        self.outputs: dict[int, StreamKind] = {}
        self.stdin_fd = -1
        child: list[int] = []
        if request.stdin:
            read_end, self.stdin_fd = os.pipe2(os.O_CLOEXEC)
        else:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            os.close(write_end)
        child.append(read_end)
        for wanted, kind in ((request.stdout, StreamKind.STDOUT), (request.stderr, StreamKind.STDERR)):
            if wanted:
                own_end, write_end = os.pipe2(os.O_CLOEXEC)
                self.outputs[own_end] = kind
            else:
                write_end = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            child.append(write_end)
        self.child_fds = tuple(child)

    def close_child(self) -> None:
        for fd in self.child_fds:
            os.close(fd)

    def close_own(self) -> None:
        for fd in [*self.outputs, *([self.stdin_fd] if self.stdin_fd >= 0 else [])]:
            os.close(fd)


def _launch_message(
    request: LaunchRequest, attach: Sequence[AttachWish], control_fd: int, attach_fds: Sequence[int]
) -> tuple[packets.Message, list[int]]:
    names, fds = ["control"], [control_fd]
    if request.netns_fd is not None:
        names.append("netns")
        fds.append(request.netns_fd)
    for index, fd in enumerate(attach_fds):
        names.append(f"attach{index}")
        fds.append(fd)
    overlay = request.rootfs
    message: packets.Message = {
        "id": request.container_id,
        "bundle": str(request.bundle),
        "state_dir": str(request.state_dir),
        "overlay": None
        if overlay is None
        else {
            "base": str(overlay.base),
            "lower": list(overlay.lower),
            "upper": overlay.upper,
            "work": overlay.work,
            "volatile": overlay.volatile,
            "flavour": overlay.flavour.value,
        },
        "log": {
            "path": str(request.log.path) if request.log.path is not None else None,
            "max_size_bytes": request.log.max_size_bytes,
            "max_files": request.log.max_files,
            "compress": request.log.compress,
            "attributes": dict(request.log.attributes),
        },
        "open_stdin": request.open_stdin,
        "stdin_once": request.stdin_once,
        "init": request.init,
        "attach": [{"stdin": wish.stdin, "stdout": wish.stdout, "stderr": wish.stderr} for wish in attach],
        "fds": names,
    }
    return message, fds


async def _receive(connection: socket.socket) -> tuple[packets.Message, list[int]] | None:
    while True:
        try:
            received = packets.receive(connection)
        except BlockingIOError:
            await channel.wait_readable(connection.fileno())
            continue
        except ConnectionResetError:
            continue
        return None if received is None else (received[0], received[2])


def _start_error(reply: packets.Message, prefix: str = _START_PREFIX) -> EngineError:
    kind, text = reply.get("failed"), str(reply.get("message", ""))
    code = int(str(reply.get("code", 128)))
    if kind == "process" or code in (126, 127):
        return StartFailed(f"{prefix}{text}", code)
    if kind == "unsupported":
        return Unsupported(text)
    return SystemFailure(f"{prefix}{text}")


def connect_monitor(state_dir: Path) -> socket.socket | None:
    """A control connection to the monitor that owns the state directory; None when there is none alive."""
    try:
        directory_fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # Through /proc: the full path may exceed the 107 bytes an address holds.
        connection.connect(f"/proc/self/fd/{directory_fd}/monitor.sock")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(directory_fd)
    connection.setblocking(False)
    return connection


def read_exit_status(state_dir: Path) -> ExitStatus | None:
    """The exit status that a monitor left behind."""
    content = _read_json(state_dir / "exit.json")
    return None if content is None else _exit_status(content)


def _exit_status(content: packets.Message) -> ExitStatus:
    return ExitStatus(int(str(content["code"])), int(str(content["finished_at_ns"])), bool(content.get("oom_killed")))


def _read_json(path: Path) -> packets.Message | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None

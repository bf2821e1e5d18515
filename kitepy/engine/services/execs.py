"""The exec resource of the Engine API: further processes in running containers. Execs end with their container or the engine."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.container_config import ExecCreateBody, ExecStartBody
from kitepy.engine.model.detach_keys import parse_detach_keys
from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound, StartFailed
from kitepy.engine.model.ids import new_id
from kitepy.engine.model.launch import ExitStatus
from kitepy.engine.runtime.client import ExecRequest, RunningExec
from kitepy.engine.runtime.streams import StreamKind
from kitepy.engine.services.accounts import Account
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.process_spec import build_environment, build_process
from kitepy.engine.services.sessions import Session

KEEP_ENDED_S = 300.0
"""How long an ended exec can still be inspected; clients ask for the exit code right after the end."""
START_PATIENCE_S = 10.0
"""How long a resize waits for the start: clients send both at once."""
_CODE_OTHER = 128
_NOT_FOUND_WORDS = ("no such file or directory", "not a directory")


@dataclass
class _Exec:
    id: str
    container_id: str
    body: ExecCreateBody
    account: Account
    """Whom its process runs as: looked up once, since the start follows at once."""
    run_started_at_ns: int
    """Which of the container's runs it was created in; it can't be started in a later one."""
    running: RunningExec | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the start has succeeded or failed."""
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
    ended_at: float | None = None


class Execs:
    """Satisfies ``ports.ExecService``. Belongs to one event loop."""

    def __init__(self, *, index: ContainerIndex, runs: ContainerRuns, launcher: ContainerLauncher, events: EventBus) -> None:
        self._index = index
        self._runs = runs
        self._launcher = launcher
        self._events = events
        self._execs: dict[str, _Exec] = {}

    async def create(self, ref: str, body: ExecCreateBody) -> str:
        record = self._index.resolve(ref)
        if not body.cmd:
            raise InvalidParameter("No exec command specified")
        if any("\0" in word for word in (*body.cmd, *(body.env or ()))):
            raise InvalidParameter("a command or an environment variable can't contain a NUL character")
        self._check_running(record, ref)
        account = self._launcher.account(record, body.user or None)  # an unknown user is an error of create
        self._forget_old()
        created = _Exec(new_id(), record.id, body, account, record.state.started_at_ns)
        self._execs[created.id] = created
        self._emit(record, f"exec_create: {_title(body)}", created.id)
        return created.id

    @staticmethod
    def _check_running(record: ContainerRecord, ref: str) -> None:
        if record.state.status is ContainerStatus.PAUSED:
            raise Conflict(f"Container {ref} is paused, unpause the container before exec")
        if record.state.status is ContainerStatus.RESTARTING:
            raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
        if not record.state.status.has_process:
            raise Conflict(f"container {record.id} is not running")

    async def start(self, exec_id: str, body: ExecStartBody) -> Session | None:
        found = self._find(exec_id)
        if found.started:
            what = "is already running" if found.exit_code is None else "has already run"
            raise Conflict(f"exec command {found.id} {what}")
        record = self._index.resolve(found.container_id)
        self._check_running(record, record.id)
        wanted = found.body
        found.started = True
        attached = not body.detach
        self._emit(record, f"exec_start: {_title(wanted)}", found.id)
        try:
            if wanted.working_dir and not wanted.working_dir.startswith("/"):
                raise StartFailed("OCI runtime exec failed: exec failed: Cwd must be an absolute path", _CODE_OTHER)
            request = ExecRequest(
                exec_id=found.id,
                process=self._process(record, found.account, wanted, body),
                seccomp_program=self._launcher.seccomp.program(record.host_config),
                stdin=attached and wanted.attach_stdin,
                stdout=attached and wanted.attach_stdout,
                stderr=attached and wanted.attach_stderr,
            )
            running = await self._runs.running(record).exec(request)
        except BaseException as error:
            found.exit_code = _code_of(error)
            found.ended_at = time.monotonic()
            found.settled.set()
            raise
        found.running, found.pid = running, running.pid
        found.settled.set()
        running.exited.add_done_callback(lambda done: self._ended(found, done))
        if body.detach:
            self._go_on_alone(running)
            return None
        talks = wanted.attach_stdin or wanted.attach_stdout or wanted.attach_stderr
        return Session(
            wanted.tty,
            _Conversation(running, self._go_on_alone, talks=talks),
            ended=running.exited if talks else None,
            input_ends_it=wanted.tty and wanted.attach_stdin,
            on_detach=lambda: self._emit(record, "exec_detach", found.id),
        )

    def _go_on_alone(self, running: RunningExec) -> None:
        self._runs.spawn(_drain(running), f"output of exec {running.exec_id}")

    def _process(self, record: ContainerRecord, account: Account, wanted: ExecCreateBody, body: ExecStartBody) -> dict[str, Any]:
        variables = [*self._launcher.links.variables(record), *(record.config.env or ()), *(wanted.env or ())]
        return build_process(
            record.host_config,
            argv=wanted.cmd or (),
            env=build_environment(variables, hostname=self._launcher.hostname(record), home=account.home, terminal=wanted.tty),
            cwd=wanted.working_dir or record.config.working_dir or "/",
            account=account,
            terminal=wanted.tty,
            console_size=body.console_size or wanted.console_size,
            privileged=wanted.privileged,
            defaults=self._launcher.security,
        )

    def _ended(self, found: _Exec, done: asyncio.Future[ExitStatus]) -> None:
        found.ended_at = time.monotonic()
        found.exit_code = 137 if done.cancelled() else done.result().code
        record = self._index.get(found.container_id)
        if record is not None:
            self._emit(record, "exec_die", found.id, exitCode=str(found.exit_code))

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        found = self._find(exec_id)
        try:
            await asyncio.wait_for(found.settled.wait(), START_PATIENCE_S)
        except TimeoutError:
            raise InvalidParameter(f"timeout waiting for exec session ready: exec {found.id} has not been started") from None
        if found.running is None or found.exit_code is not None:
            raise NotFound(f"process does not exist: exec {found.id} has ended")
        await found.running.resize(rows, columns)

    async def inspect(self, exec_id: str) -> dict[str, Any]:
        found = self._find(exec_id)
        body = found.body
        words = list(body.cmd or ())
        return {
            "ID": found.id,
            "Running": found.running is not None and found.exit_code is None,
            "ExitCode": found.exit_code,
            "ProcessConfig": {
                "tty": body.tty,
                "entrypoint": words[0] if words else "",
                "arguments": words[1:],
                "privileged": body.privileged,
                **({"user": body.user} if body.user else {}),
            },
            "OpenStdin": body.attach_stdin,
            "OpenStderr": body.attach_stderr,
            "OpenStdout": body.attach_stdout,
            "CanRemove": False,
            "ContainerID": found.container_id,
            "DetachKeys": base64.b64encode(parse_detach_keys(body.detach_keys)).decode() if body.detach_keys else "",
            "Pid": found.pid,
        }

    def ids_of(self, container_id: str) -> list[str]:
        """The execs of a container that haven't ended."""
        return [found.id for found in self._execs.values() if found.container_id == container_id and found.exit_code is None]

    def _find(self, exec_id: str) -> _Exec:
        self._forget_old()
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def _forget_old(self) -> None:
        limit = time.monotonic() - KEEP_ENDED_S
        for exec_id in [found.id for found in self._execs.values() if self._is_gone(found, limit)]:
            del self._execs[exec_id]

    def _is_gone(self, found: _Exec, limit: float) -> bool:
        if found.ended_at is not None and found.ended_at < limit:
            return True
        record = self._index.get(found.container_id)
        if record is None:
            return True
        state = record.state
        return not found.started and not (state.status.has_process and state.started_at_ns == found.run_started_at_ns)

    def _emit(self, record: ContainerRecord, action: str, exec_id: str, **more: str) -> None:
        self._events.emit("container", action, record.id, event_attributes(record, execID=exec_id, **more))


class _Conversation:
    """The streams of an exec while a client has them; when it leaves, the process goes on with nobody listening."""

    log_end: tuple[int, int] | None = None

    def __init__(self, running: RunningExec, go_on_alone: Callable[[RunningExec], None], *, talks: bool) -> None:
        self._running = running
        self._go_on_alone = go_on_alone
        self._talks = talks

    async def read(self) -> tuple[StreamKind, bytes] | None:
        return await self._running.read() if self._talks else None

    async def write(self, data: bytes) -> None:
        await self._running.write(data)

    async def close_stdin(self) -> None:
        await self._running.close_stdin()

    async def close(self) -> None:
        await self._running.close_stdin()
        if self._running.exited.done():
            await self._running.close()
        else:
            self._go_on_alone(self._running)


def _title(body: ExecCreateBody) -> str:
    """The command as events show it: what is executed, a space, its arguments."""
    words = body.cmd or [""]
    return f"{words[0]} {' '.join(words[1:])}"


def _code_of(error: BaseException) -> int:
    """The exit code of an exec that couldn't be started, as dockerd has it."""
    if isinstance(error, StartFailed) and error.exit_code in (126, 127):
        return error.exit_code
    return 127 if any(words in str(error).lower() for words in _NOT_FOUND_WORDS) else _CODE_OTHER


async def _drain(running: RunningExec) -> None:
    """Nobody reads a detached exec's output, but a full pipe would stop it."""
    try:
        while await running.read() is not None:
            pass
        await running.exited
    finally:
        await running.close()

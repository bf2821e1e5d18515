"""The exec resource of the Engine API: further processes in running containers. Execs end with their container or the engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.container_config import ExecCreateBody, ExecStartBody
from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound, StartFailed
from kitepy.engine.model.ids import new_id
from kitepy.engine.model.launch import ExitStatus
from kitepy.engine.runtime.client import ExecRequest, RunningExec
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.process_spec import build_environment, build_process
from kitepy.engine.services.sessions import Session

KEEP_ENDED_S = 300.0
"""How long an ended exec can still be inspected; clients ask for the exit code right after the end."""


@dataclass
class _Exec:
    id: str
    container_id: str
    body: ExecCreateBody
    running: RunningExec | None = None
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
        if not body.cmd or not body.cmd[0]:
            raise InvalidParameter("No exec command specified")
        if any("\0" in word for word in (*body.cmd, *(body.env or ()))):
            raise InvalidParameter("a command or an environment variable can't contain a NUL character")
        self._check_running(record, ref)
        self._launcher.account(record, body.user or None)  # an unknown user is an error of create
        self._forget_old()
        created = _Exec(new_id(), record.id, body)
        self._execs[created.id] = created
        self._emit(record, f"exec_create: {' '.join(body.cmd)}", created.id)
        return created.id

    @staticmethod
    def _check_running(record: ContainerRecord, ref: str) -> None:
        if record.state.status is ContainerStatus.PAUSED:
            raise Conflict(f"container {ref} is paused, unpause the container before exec")
        if record.state.status is ContainerStatus.RESTARTING:
            raise Conflict(f"container {record.id} is restarting, wait until the container is running")
        if not record.state.status.has_process:
            raise Conflict(f"container {record.id} is not running")

    async def start(self, exec_id: str, body: ExecStartBody) -> Session | None:
        found = self._find(exec_id)
        if found.started:
            raise Conflict(f"exec {exec_id} is already running" if found.exit_code is None else f"exec {exec_id} has already run")
        record = self._index.resolve(found.container_id)
        self._check_running(record, record.id)
        wanted = found.body
        found.started = True
        attached = not body.detach
        request = ExecRequest(
            exec_id=found.id,
            process=self._process(record, wanted, body),
            seccomp_program=self._launcher.seccomp.program(record.host_config),
            stdin=attached and wanted.attach_stdin,
            stdout=attached and wanted.attach_stdout,
            stderr=attached and wanted.attach_stderr,
        )
        try:
            running = await self._runs.running(record).exec(request)
        except BaseException as error:
            found.exit_code = error.exit_code if isinstance(error, StartFailed) else 126
            found.ended_at = time.monotonic()
            raise
        found.running, found.pid = running, running.pid
        running.exited.add_done_callback(lambda done: self._ended(found, done))
        self._emit(record, f"exec_start: {' '.join(wanted.cmd or ())}", found.id)
        if body.detach:
            self._runs.spawn(_drain(running), f"output of exec {found.id}")
            return None
        return Session(wanted.tty, running, ended=running.exited)

    def _process(self, record: ContainerRecord, wanted: ExecCreateBody, body: ExecStartBody) -> dict[str, Any]:
        account = self._launcher.account(record, wanted.user or None)
        variables = [*(record.config.env or ()), *(wanted.env or ())]
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
        if found.running is None or found.exit_code is not None:
            raise Conflict(f"exec {exec_id} is not running")
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
            "CanRemove": found.exit_code is not None,
            "ContainerID": found.container_id,
            "DetachKeys": body.detach_keys,
            "Pid": found.pid,
        }

    def ids_of(self, container_id: str) -> list[str]:
        """The execs of a container that haven't ended."""
        return [found.id for found in self._execs.values() if found.container_id == container_id and found.exit_code is None]

    def _find(self, exec_id: str) -> _Exec:
        found = self._execs.get(exec_id)
        if found is None:
            matches = [other for other in self._execs.values() if exec_id and other.id.startswith(exec_id)]
            if len(matches) != 1:
                raise NotFound(f"No such exec instance: {exec_id}")
            found = matches[0]
        return found

    def _forget_old(self) -> None:
        limit = time.monotonic() - KEEP_ENDED_S
        gone = [
            found.id
            for found in self._execs.values()
            if (found.ended_at is not None and found.ended_at < limit) or self._index.get(found.container_id) is None
        ]
        for exec_id in gone:
            del self._execs[exec_id]

    def _emit(self, record: ContainerRecord, action: str, exec_id: str, **more: str) -> None:
        self._events.emit("container", action, record.id, event_attributes(record, execID=exec_id, **more))


async def _drain(running: RunningExec) -> None:
    """Nobody reads a detached exec's output, but a full pipe would stop it."""
    try:
        while await running.read() is not None:
            pass
        await running.exited
    finally:
        await running.close()

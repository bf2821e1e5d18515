"""Starts, adopts and stops the engine that ships with the app; talking to it is left to ``api.py``.

The engine is a process of its own session: closing the app leaves it and its containers running, and the next start of
the app finds it on its socket. Two apps that open at once start one engine, because starting happens under a lock.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kitepy import __version__
from kitepy.client import elevation
from kitepy.client.diagnosis import Diagnosis, diagnose
from kitepy.client.elevation import Elevation
from kitepy.client.errors import EngineStartError
from kitepy.client.paths import SUN_PATH_MAX_BYTES, EnginePaths
from kitepy.client.preferences import EngineMode
from kitepy.client.probe import Presence, Probe, probe

_log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
ASKING_TIMEOUT_S = 300.0
"""A person may have to find a password first."""
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
_LOG_TAIL_BYTES = 4000
_LOG_MAX_BYTES = 5_000_000
_PKEXEC_DISMISSED = 126
_PKEXEC_NOT_AUTHORISED = 127


@dataclass(frozen=True)
class EngineInfo:
    """An engine that answers."""

    adopted: bool
    """It was running already."""
    pid: int
    """0 when the kernel doesn't tell."""
    version: str
    elevated_by: str = ""
    """The program that made it root for an ordinary user, ``sudo`` or ``pkexec``; `elevation.WHY` tells the user why."""


def engine_command(paths: EnginePaths, uid: int, python: str = sys.executable, extra: Sequence[str] = ()) -> list[str]:
    """The engine's command line, without what makes it root."""
    command = [
        python,
        *(() if paths.bytecode is None else ("-X", f"pycache_prefix={paths.bytecode}")),
        *("-m", "kitepy.engine"),
        *("-H", f"unix://{paths.socket}"),
        *("--data-root", str(paths.data_root)),
        *("--exec-root", str(paths.exec_root)),
        *("--pidfile", str(paths.pidfile)),
        "--live-restore",  # stopping the engine, to renew it for one, must not stop what the user runs
    ]
    if uid != 0 and paths.mode is EngineMode.ROOT:
        command += ["--socket-owner", str(uid)]
    return [*command, *extra]


class BundledEngine:
    """The engine of this user, as a subprocess that outlives the app.

    It runs with the user's own rights; through sudo or pkexec only where ``paths.mode`` says so.
    ``environment`` may carry ``KITEPY_ENGINE_ARGS``: further options for the engine, in shell syntax.
    """

    def __init__(
        self,
        paths: EnginePaths | None = None,
        *,
        environment: dict[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        command: Callable[[EnginePaths, int], list[str]] | None = None,
        elevate: Callable[[], Elevation | None] | None = None,
    ) -> None:
        self.paths = paths or EnginePaths.default()
        self._environment = dict(os.environ) if environment is None else environment
        self._start_timeout_s = start_timeout_s
        self._uid = os.getuid()
        self._diagnoses = command is None
        self._command = command or self._default_command
        self._elevate = elevate or self._default_elevation
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kitepy-bundled-engine")

    async def ensure_running(self) -> EngineInfo:
        """Adopt a healthy engine of this version, else start one; raises `EngineStartError`.

        An engine of another version is stopped first: its containers keep running and the new engine adopts them.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.ensure_running_blocking)

    async def stop(self) -> bool:
        """End the engine and leave its containers running; tells whether there was one."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.stop_blocking)

    def status(self) -> Probe:
        """What is found on the socket now."""
        return probe(self.paths.socket)

    async def diagnose(self) -> Diagnosis:
        """What this machine lacks for an engine of this user; raises `EngineStartError` when that can't be told."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.diagnose_blocking)

    # --- blocking, for the command line and the pool above ---------------------------------------------------------

    def ensure_running_blocking(self) -> EngineInfo:
        """`ensure_running` for callers without an event loop."""
        self._check_socket_path()
        with self._one_at_a_time():
            found = self.status()
            if found.presence is Presence.HEALTHY and found.version == __version__:
                return EngineInfo(adopted=True, pid=found.pid, version=found.version)
            self._make_room(found)
            try:
                return self._start()
            except EngineStartError as error:
                raise self._explained(error) from error

    def diagnose_blocking(self) -> Diagnosis:
        """`diagnose` for callers without an event loop."""
        return diagnose(self.paths.data_root, self._environment)

    def stop_blocking(self) -> bool:
        """`stop` for callers without an event loop."""
        found = self.status()
        pid = found.pid or self._pid_from_file()
        if found.presence in (Presence.ABSENT, Presence.STALE) and not pid:
            return False
        if found.presence is Presence.HEALTHY and not found.version:
            raise EngineStartError(
                f"What answers on {self.paths.socket} is not Kitepy's engine, so it was left alone.",
                "Stop it by its own means.",
            )
        if not pid:
            raise EngineStartError(
                f"The process behind {self.paths.socket} can't be found.", f"Look for it: sudo fuser -v {self.paths.socket}"
            )
        self._terminate(pid)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_alive(pid):
            if time.monotonic() > deadline:
                raise EngineStartError(
                    f"The engine (process {pid}) did not end within {STOP_TIMEOUT_S:.0f} seconds.",
                    f"End it by force; containers keep running: sudo kill -9 {pid}",
                    self._log_tail(),
                )
            time.sleep(_POLL_S)
        return True

    # --- steps -----------------------------------------------------------------------------------------------------

    def _check_socket_path(self) -> None:
        length = len(os.fsencode(self.paths.socket))
        if length > SUN_PATH_MAX_BYTES:
            raise EngineStartError(
                f"The socket's path is too long for the kernel: {length} bytes, {SUN_PATH_MAX_BYTES} are allowed.",
                f"Choose a shorter KITEPY_HOME than {self.paths.socket.parent}.",
            )

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        lock_path = self.paths.log.with_name("engine.lock")
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            with lock_path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            if error.filename not in (str(lock_path), str(lock_path.parent)):
                raise
            raise EngineStartError(
                f"Kitepy may not write to {lock_path.parent}.", f"Give it back to you: sudo chown -R $USER {lock_path.parent}"
            ) from error

    def _make_room(self, found: Probe) -> None:
        """Deal with what is on the socket and is not the engine that is wanted."""
        match found.presence:
            case Presence.ABSENT | Presence.STALE:
                return  # A socket without a listener is replaced by the engine itself.
            case Presence.DENIED:
                raise EngineStartError(
                    f"You may not use the engine's socket {self.paths.socket}: it belongs to somebody else.",
                    f"Look who: ls -l {self.paths.socket}",
                )
            case Presence.SILENT:
                raise EngineStartError(
                    f"Something listens on {self.paths.socket} but does not answer like an engine ({found.detail}).",
                    "Stop it and try again: kitepy engine stop",
                    self._log_tail(),
                )
            case Presence.HEALTHY if not found.version:
                raise EngineStartError(
                    f"Another engine than Kitepy's answers on {self.paths.socket}.",
                    "Stop it, or set KITEPY_HOME to another directory.",
                )
            case Presence.HEALTHY:
                self.stop_blocking()

    def _explained(self, error: EngineStartError) -> EngineStartError:
        """The same failure by what this machine lacks, where that is the reason: more use than the end of a log."""
        if not self._diagnoses or (self.paths.mode is EngineMode.ROOT and self._uid != 0):
            return error
        try:
            found = self.diagnose_blocking()
        except EngineStartError as silent:
            _log.warning("no reason for the failed start was found: %s", silent)
            return error
        if found.can_run:
            return error
        first = found.blocking[0]
        hint = first.fixes[0].command if first.fixes else error.hint
        return EngineStartError(first.summary, hint, error.log_tail, found.findings)

    def _start(self) -> EngineInfo:
        way = self._elevate()
        if way is None:
            raise EngineStartError(
                "The engine is to be started as root, and neither sudo nor pkexec can do that here. " + elevation.WHY,
                f"Start it once in a terminal, then retry: sudo {shlex.join(self._command(self.paths, self._uid))}",
            )
        if way.prefix:
            _log.info("starting the engine with %s. %s", way.prefix[0], elevation.WHY)
        command = [*way.prefix, *self._command(self.paths, self._uid)]
        began_at = self._rotate_log()
        try:
            with self.paths.log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                    env={**self._environment, "PYTHONUNBUFFERED": "1"},
                )
        except OSError as error:
            raise EngineStartError(
                f"The engine's program can't be executed: {error}.", "Repair the installation: make install"
            ) from error
        return self._wait_until_healthy(process, way, began_at)

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], way: Elevation, began_at: int) -> EngineInfo:
        deadline = time.monotonic() + (ASKING_TIMEOUT_S if way.asks else self._start_timeout_s)
        while True:
            found = self.status()
            if found.presence is Presence.HEALTHY:
                by = Path(way.prefix[0]).name if way.prefix else ""
                return EngineInfo(adopted=False, pid=found.pid or process.pid, version=found.version, elevated_by=by)
            code = process.poll()
            if code is not None:
                raise self._early_death(code, way, began_at)
            if found.presence is Presence.DENIED:
                raise EngineStartError(
                    f"The engine started, but its socket {self.paths.socket} can't be used by this user.",
                    f"Look at its owner: ls -l {self.paths.socket}",
                    self._log_tail(began_at),
                )
            if time.monotonic() > deadline:
                self._terminate(process.pid)
                state = found.detail or found.presence.value
                raise EngineStartError(
                    f"The engine did not answer within {self._start_timeout_s:.0f} seconds ({state}).",
                    f"Its log may tell why: {self.paths.log}",
                    self._log_tail(began_at),
                )
            time.sleep(_POLL_S)

    def _early_death(self, code: int, way: Elevation, began_at: int) -> EngineStartError:
        tail = self._log_tail(began_at)
        if way.asks and code in (_PKEXEC_DISMISSED, _PKEXEC_NOT_AUTHORISED) and not tail.strip().startswith("Traceback"):
            return EngineStartError(
                "The permission to start the engine was not given. " + elevation.WHY,
                "Retry and enter an administrator's password.",
                tail,
            )
        last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EngineStartError(
            f"The engine ended while starting ({ended})" + (f": {last}" if last else "."),
            f"The whole log: {self.paths.log}",
            tail,
        )

    def _terminate(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        except PermissionError:
            way = self._elevate()
            # Not kill(1): small systems have it in the shell alone.
            command = [sys.executable, "-I", "-c", f"import os; os.kill({pid}, {int(signal.SIGTERM)})"]
            if way is None or subprocess.run([*way.prefix, *command], stdin=subprocess.DEVNULL, check=False).returncode != 0:
                raise EngineStartError(
                    f"The engine (process {pid}) runs as root and this user may not stop it.",
                    f"Stop it: sudo kill {pid}",
                ) from None

    # --- surroundings ----------------------------------------------------------------------------------------------

    def _default_command(self, paths: EnginePaths, uid: int) -> list[str]:
        return engine_command(paths, uid, extra=shlex.split(self._environment.get("KITEPY_ENGINE_ARGS", "")))

    def _default_elevation(self) -> Elevation | None:
        if self.paths.mode is EngineMode.ROOTLESS:
            return Elevation((), asks=False)
        has_display = bool(self._environment.get("DISPLAY") or self._environment.get("WAYLAND_DISPLAY"))
        return elevation.choose(self._uid, has_display, elevation.sudo_asks_nothing, elevation.find_program)

    def _pid_from_file(self) -> int:
        """The engine's process by its pidfile, 0 when there is none or its process is gone or another program's."""
        try:
            pid = int(self.paths.pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return pid if any(b"kitepy" in word for word in words) else 0

    def _rotate_log(self) -> int:
        """Keep the log bounded (one older one) and give the offset where this start's lines begin."""
        try:
            size = self.paths.log.stat().st_size
        except FileNotFoundError:
            return 0
        if size > _LOG_MAX_BYTES:
            self.paths.log.replace(self.paths.log.with_suffix(".log.1"))
            return 0
        return size

    def _log_tail(self, began_at: int = 0) -> str:
        try:
            with self.paths.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(min(began_at, size), size - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def _is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie (its parent may be this very process, which never waits for it)."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"

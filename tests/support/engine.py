"""A real engine for tests: its own directories, address range and log; stopped and searched for leaks afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
from support.ordinary_user import REPOSITORY, give_to_user, user_command

# An emulated machine takes its time.
START_TIMEOUT_S = STOP_TIMEOUT_S = 180.0 if os.environ.get("KITEPY_VM") == "1" else 20.0

_numbers = itertools.count()


def unused_bip() -> str:
    """An address range of this process: workers and engines side by side must not share a bridge's addresses."""
    number = os.getpid() * 16 + next(_numbers)
    return f"10.{200 + number // 250 % 50}.{number % 250}.1/24"


ROOTLESS = os.environ.get("KITEPY_TEST_MODE") == "rootless"
"""Whether engines are an ordinary user's unless a test says otherwise."""


class EngineUnderTest:
    """An engine as a subprocess. Use it as a context manager, or ``start`` and ``stop`` it by hand."""

    PROGRAM = (sys.executable, "-m", "kitepy.engine")

    def __init__(
        self,
        *options: str,
        private_netns: bool = False,
        program: Sequence[str] = PROGRAM,
        rootless: bool = ROOTLESS,
        tun_mode: str = "666",
        data_on_overlay: bool = False,
    ) -> None:
        # Short, because a socket's path may have 107 bytes; on a disk, because overlayfs can't stack on every tmpfs.
        self.home = Path(tempfile.mkdtemp(prefix="ke-", dir="/var/tmp"))
        self.listens_at = self.home / "e.sock"
        self.socket = self.listens_at
        """Where clients find it; something may stand in between."""
        self.data_root = self.home / "data"
        self.exec_root = self.home / "exec"
        self.pidfile = self.home / "pid"
        self.log = self.home / "log"
        self.private_netns = private_netns
        self.rootless = rootless
        self._api_version = "auto"
        self._tun_mode = tun_mode
        self._data_on_overlay = data_on_overlay
        if rootless:
            give_to_user(self.home)
        self._options = options
        self.program = program
        self._bip = unused_bip()
        self._process: subprocess.Popen[bytes] | None = None
        self._container_ids: set[str] = set()

    @property
    def url(self) -> str:
        """For docker-py and the docker command line."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The engine's process."""
        if self._process is None:
            raise RuntimeError("the engine is not running")
        return self._process.pid

    @property
    def options(self) -> list[str]:
        """Where it keeps what, and the test's own options."""
        return [
            *("-H", f"unix://{self.listens_at}", "--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.pidfile)),
            *(() if "--bridge" in self._options or "--bip" in self._options else ("--bip", self._bip)),
            *self._options,
        ]

    @property
    def command(self) -> list[str]:
        """The engine's command line."""
        engine = [*self.program, *self.options]
        if self.rootless:
            overlay = self.data_root if self._data_on_overlay else None
            engine = user_command(self.home, engine, tun_mode=self._tun_mode, overlay=overlay)
        if self.private_netns:
            return ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *engine]
        return engine

    def start(self) -> float:
        """Start it and wait until it answers; gives the seconds that took."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=self.environment()
            )
        deadline = began + START_TIMEOUT_S
        while not self.answers():
            if self._process.poll() is not None:
                raise AssertionError(f"the engine ended while starting ({self._process.returncode}):\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the engine did not answer within {START_TIMEOUT_S} s:\n{self.log_tail()}")
            time.sleep(0.01)
        return time.monotonic() - began

    @staticmethod
    def environment() -> dict[str, str]:
        """The engine of this checkout, also where another one is installed."""
        others = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path != str(REPOSITORY)]
        return {**os.environ, "PYTHONPATH": ":".join([str(REPOSITORY), *others])}

    def answers(self) -> bool:
        """Whether it answers a ping."""
        from kitepy.client.probe import Presence, probe

        return self.listens_at.exists() and probe(self.listens_at).presence is Presence.HEALTHY

    def stop(self) -> None:
        """End it as a service manager would; containers keep running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the engine ignored SIGTERM:\n{self.log_tail()}") from None
        self._process = None

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def docker(self, timeout_s: int = 60) -> docker.DockerClient:
        """A docker-py client; close it, or use the fixture ``client``."""
        client = docker.DockerClient(base_url=self.url, version=self._api_version, timeout=timeout_s)
        self._api_version = client.api._version  # negotiated once: thousands of tests ask for a client
        # There is no proxy to a socket, and looking for one takes longer than most requests.
        client.api.trust_env = False
        return client

    def log_tail(self, size_bytes: int = 6000) -> str:
        """What it wrote last."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-size_bytes:].decode(errors="replace")

    def remove_everything(self) -> None:
        """Remove all containers, so that nothing is meant to be left, and remember which there were."""
        client = self.docker()
        try:
            past = client.events(since=0, until=int(time.time()) + 1, decode=True, filters={"type": "container"})
            self._container_ids.update(event["Actor"]["ID"] for event in past if event["Actor"]["ID"])
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
        finally:
            client.close()

    def leaks(self) -> list[str]:
        """What is left of it on the machine although it was stopped and its containers removed."""
        return [*self._processes(), *self._mounts(), *self._cgroups(), *self._interfaces()]

    def leaks_after(self, timeout_s: float) -> list[str]:
        """`leaks`, once more until they are gone or the time is up: the kernel tears some things down late."""
        deadline = time.monotonic() + timeout_s
        while found := self.leaks():
            if time.monotonic() > deadline:
                return found
            time.sleep(0.05)
        return []

    def __enter__(self) -> EngineUnderTest:
        try:
            self.start()
        except BaseException:
            self._end_processes()  # the namespaces of an ordinary user's engine outlive it, by design
            self.remove_files()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._process is None or self._process.poll() is not None:
                self.start()  # A test killed it: what it left is the next one's to clean up.
            self.remove_everything()
        finally:
            self.stop()
        left = self.leaks_after(5)
        self._end_processes()
        if not left or not self._mounts():
            self.remove_files()
        # Trouble inside the block is the better message.
        if left and kind is None:
            raise AssertionError("the engine left behind:\n  " + "\n  ".join(left))

    def remove_files(self) -> None:
        """Delete its directories."""
        shutil.rmtree(self.home, ignore_errors=True)

    # --- traces ----------------------------------------------------------------------------------------------------

    def process_ids(self) -> list[int]:
        """Engine, launcher and monitors by what they were started with, stand in or hold open; and all they started."""
        found: list[int] = []
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
                if self._belongs_here(entry):
                    found.append(int(entry.name))
            except OSError:
                continue  # It ended meanwhile.
        for pid in found:
            found += [child for child in children.get(pid, ()) if child not in found]
        return found

    def _end_processes(self) -> None:
        for pid in self.process_ids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _belongs_here(self, process: Path) -> bool:
        home = os.fsencode(self.home)
        if home in (process / "cmdline").read_bytes():
            return True
        links = [process / "cwd", *(process / "fd").iterdir()]
        return any(os.readlink(link).startswith(str(self.home)) for link in links if link.is_symlink())

    def _processes(self) -> Iterator[str]:
        for pid in self.process_ids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield f"process {pid}: {words[:200]}"

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [f"mount {line.split()[4]}" for line in lines if str(self.home) in line]

    def _cgroups(self) -> list[str]:
        if not self._container_ids:
            return []
        found = (Path(directory) for directory, _, _ in os.walk("/sys/fs/cgroup"))
        return [f"cgroup {path}" for path in found if any(known in path.name for known in self._container_ids)]

    def _interfaces(self) -> list[str]:
        """Interfaces with this engine's address; in a network namespace of its own they end with it."""
        if self.private_netns or self.rootless:
            return []
        lines = subprocess.run(
            ["ip", "-o", "-4", "address", "show"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        return [f"interface {line.split()[1]} with {self._bip}" for line in lines if self._bip in line.split()]


class PeerEngine(EngineUnderTest):
    """Someone else's engine on a unix socket: what a test says of behaviour can be tried on dockerd before it is asked of Kitepy.

    It is neither started nor stopped, and what only an engine of ours has (directories, log, leaks) is not there.
    """

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.socket = socket
        self.log = self.home / "log"
        self.log.touch()

    def __enter__(self) -> PeerEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove_files()


PEER = os.environ.get("KITEPY_TEST_PEER", "")
"""A peer's socket: tests of behaviour then ask that engine instead of one of ours."""


def docker_info(engine: EngineUnderTest) -> dict[str, Any]:
    """``GET /info``, once."""
    client = engine.docker()
    try:
        return dict(client.info())
    finally:
        client.close()

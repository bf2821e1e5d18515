"""A laboratory for the runtime: a busybox root file system, OCI documents, a launcher, and clean-up after each test."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.capabilities import DEFAULT
from kitepy.engine.kernel.cgroups import detect
from kitepy.engine.kernel.seccomp import compile_filter, default_profile, resolve_profile
from kitepy.engine.model.errors import Conflict
from kitepy.engine.model.ids import new_id
from kitepy.engine.model.launch import ExitStatus, LaunchRequest, LogTarget, OverlayRoot
from kitepy.engine.runtime.client import RunningContainer, Runtime
from kitepy.engine.runtime.launcher import fork_launcher
from kitepy.engine.runtime.streams import AttachStream, AttachWish, StreamKind

Document = dict[str, Any]

NAMESPACES = ("mount", "pid", "uts", "ipc", "network", "cgroup")
MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
TIMEOUT_S = 30.0


def make_layer(directory: Path) -> None:
    """A root file system of busybox and links to it."""
    program_directory = directory / "bin"
    program_directory.mkdir(parents=True)
    shutil.copy("/bin/busybox", program_directory / "busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (program_directory / name).symlink_to("busybox")
    (directory / "tmp").mkdir(mode=0o1777)


def make_process(args: Sequence[str], **changes: Any) -> Document:
    """An OCI process object with Docker's default capabilities."""
    process: Document = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {name: list(DEFAULT) for name in ("bounding", "effective", "permitted")},
    }
    return {**process, **changes}


def make_document(args: Sequence[str], **process_changes: Any) -> Document:
    """An OCI document like the one of a default Docker container."""
    quiet = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "process": make_process(args, **process_changes),
        "root": {"path": "rootfs"},
        "hostname": "lab",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*quiet, "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*quiet, "mode=1777", "size=65536k"]},
        ],
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES],
            "resources": {},
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def default_seccomp() -> bytes:
    """The compiled default filter for the default capabilities."""
    return compile_filter(resolve_profile(default_profile(), list(DEFAULT)))


class Lab:
    """One directory with a layer, a runtime, and the containers that a test starts in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.layer = base / "layers" / "1" / "diff"
        make_layer(self.layer)
        (base / "layers" / "2" / "diff").mkdir(parents=True)
        self.cgroups = detect()
        self._launcher = fork_launcher()
        self._runtime: Runtime | None = None
        self._started: list[RunningContainer] = []

    @property
    def launcher_pid(self) -> int:
        return self._launcher.pid

    @property
    def runtime(self) -> Runtime:
        assert self._runtime is not None
        return self._runtime

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test's coroutine; whatever still runs afterwards is killed."""

        async def guarded() -> None:
            self._runtime = Runtime(self._launcher, self.base / "exec", self.cgroups)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await test()
            finally:
                for container in self._started:
                    with contextlib.suppress(Conflict):  # it may be just ending
                        await container.signal(9)
                    await asyncio.wait_for(container.exited, 5)
                await self._runtime.close()

        asyncio.run(guarded())

    def request(
        self, document: Document, *, log: str = "json-file", stdin: bool = False, seccomp: bytes | None = None, **changes: Any
    ) -> LaunchRequest:
        """A launch request with fresh directories for a new container."""
        container_id = new_id()
        bundle = self.base / "exec" / "containers" / container_id
        (bundle / "rootfs").mkdir(parents=True)
        data = self.base / "containers" / container_id
        (data / "upper").mkdir(parents=True)
        (data / "work").mkdir()
        (bundle / "config.json").write_text(json.dumps(document))
        values: dict[str, Any] = {
            "container_id": container_id,
            "bundle": bundle,
            "state_dir": bundle,
            "rootfs": OverlayRoot(
                self.base,
                ("layers/2/diff", "layers/1/diff"),
                f"containers/{container_id}/upper",
                f"containers/{container_id}/work",
                volatile=True,
            ),
            "log": LogTarget(data / "log.json" if log != "none" else None),
            "seccomp_program": default_seccomp() if seccomp is None else seccomp,
            "open_stdin": stdin,
        }
        return LaunchRequest(**{**values, **changes})

    async def start(self, request: LaunchRequest, attach: Sequence[AttachWish] = ()) -> RunningContainer:
        """Start a container that is killed at the end of the test at the latest."""
        container = await self.runtime.start(request, attach)
        self._started.append(container)
        return container

    def forget(self, container: RunningContainer) -> None:
        """The test has let go of this one, and takes it up again or ends it by itself."""
        self._started.remove(container)

    async def shell(self, script: str, document: Document | None = None, **request: Any) -> tuple[str, ExitStatus]:
        """Run a shell script in a new container; returns what it wrote to both streams, and how it ended."""
        described = make_document([]) if document is None else copy.deepcopy(document)
        described["process"]["args"] = ["sh", "-c", script]
        container = await self.start(self.request(described, **request), [AttachWish()])
        output = await read_all(container.attached[0])
        return output[StreamKind.STDOUT] + output[StreamKind.STDERR], await container.exited


async def read_all(stream: AttachStream) -> dict[StreamKind, str]:
    """Everything up to the end, by stream."""
    found: dict[StreamKind, list[bytes]] = {StreamKind.STDOUT: [], StreamKind.STDERR: []}
    while (piece := await stream.read()) is not None:
        found[piece[0]].append(piece[1])
    return {kind: b"".join(parts).decode() for kind, parts in found.items()}


async def read_until(stream: AttachStream, wanted: bytes) -> bytes:
    """Output up to and including some text; the caller's timeout bounds the wait."""
    found = b""
    while wanted not in found:
        piece = await stream.read()
        assert piece is not None, f"the stream ended after {found[-200:]!r}"
        found += piece[1]
    return found


async def eventually(condition: Callable[[], Awaitable[bool] | bool], deadline_s: float = 10.0) -> None:
    """Wait for a condition with a deadline."""
    async with asyncio.timeout(deadline_s):
        while True:
            outcome = condition()
            if outcome if isinstance(outcome, bool) else await outcome:
                return
            await asyncio.sleep(0.005)


def log_entries(request: LaunchRequest) -> list[dict[str, str]]:
    """The parsed json-file log of a container."""
    assert request.log.path is not None
    return [json.loads(line) for line in request.log.path.read_text().splitlines()]


def cgroups_left(container_id: str) -> list[str]:
    """Control group directories of a container that still exist."""
    return [
        os.path.join(root, container_id)
        for root, directories, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(root) == "kitepy" and container_id in directories
    ]

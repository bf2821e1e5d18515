"""A builder on a data root of its own, with everything real but the container runtime: steps run in a plain chroot."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.images import busybox_archive
from support.storage import no_web

from kitepy.engine.builder.changes import apply_changes
from kitepy.engine.builder.ownership import resolve_owner
from kitepy.engine.builder.steps import RunStep, StepOutput
from kitepy.engine.model.image import Image
from kitepy.engine.services.builds import BuildService
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.ports import BuildOptions
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.storage.worker import WorkerPool

# Runs in new mount and pid namespaces, so that nothing is left mounted or running whatever happens.
_INSIDE = """
import json, os, subprocess, sys
step = json.loads(sys.argv[1])
os.chdir(step["base"])
subprocess.run(["mount", "-t", "overlay", "overlay", "-o", step["options"], step["merged"]], check=True)
for mount in step["mounts"]:
    target = step["merged"] + mount["target"]
    if os.path.isfile(mount["source"]):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    else:
        os.makedirs(target, exist_ok=True)
    what = ["--bind", mount["source"]] if mount["source"] else ["-t", "tmpfs", "tmpfs"]
    subprocess.run(["mount", *what, target], check=True)
    if mount["read_only"]:
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
os.chroot(step["merged"])
os.makedirs(step["working_dir"], exist_ok=True)
os.chdir(step["working_dir"])
os.setgroups([])
os.setgid(step["gid"])
os.setuid(step["uid"])
try:
    os.execvpe(step["argv"][0], step["argv"], step["env"])
except OSError:
    os._exit(127)
"""


class ChrootRunner:
    """A ``StepRunner`` without networks, limits and cgroups; remembers the steps it ran."""

    def __init__(self) -> None:
        self.steps: list[RunStep] = []
        self.running: set[int] = set()
        self.started = asyncio.Event()

    async def run(self, step: RunStep, output: StepOutput) -> int:
        self.steps.append(step)
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-c", _INSIDE, _described(step)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.running.add(process.pid)
        self.started.set()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            await asyncio.gather(_pump(process.stdout, 1, output), _pump(process.stderr, 2, output))
            return await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            self.running.discard(process.pid)


def _described(step: RunStep) -> str:
    root = step.root
    merged = root.base / Path(root.upper or "").parent / "merged"
    merged.mkdir(exist_ok=True)
    passwd = root.base / root.lower[-1] / "etc/passwd"
    accounts = passwd.read_text() if passwd.exists() else ""
    uid, gid = resolve_owner(step.user, accounts, "") if step.user else (0, 0)
    return json.dumps(
        {
            "base": str(root.base),
            "options": f"lowerdir={':'.join(root.lower)},upperdir={root.upper},workdir={root.work}",
            "merged": str(merged),
            "argv": step.argv,
            "env": dict(entry.split("=", 1) for entry in step.env),
            "uid": uid,
            "gid": gid,
            "working_dir": step.working_dir,
            "mounts": [
                {"target": mount.target, "source": str(mount.source or ""), "read_only": mount.read_only} for mount in step.mounts
            ],
        }
    )


async def _pump(stream: asyncio.StreamReader, number: int, output: StepOutput) -> None:
    while piece := await stream.read(1 << 16):
        await output(number, piece)


@dataclass
class Built:
    """What a build said."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(message.get("stream", "") for message in self.messages)

    @property
    def error(self) -> str | None:
        return next((message["error"] for message in self.messages if "error" in message), None)

    @property
    def code(self) -> int | None:
        return next((message["errorDetail"].get("code") for message in self.messages if "error" in message), None)

    @property
    def image_id(self) -> str:
        assert self.error is None, self.error
        return str(next(message["aux"]["ID"] for message in self.messages if "aux" in message))

    @property
    def cached(self) -> int:
        return self.text.count(" ---> Using cache\n")


class BuilderUnderTest:
    """Use as an asynchronous context manager; ``busybox`` is there to build on."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def __aenter__(self) -> BuilderUnderTest:
        self.database = Database(self.root / "state.db")
        self.content = ContentStore(self.root)
        self.workers = WorkerPool()
        self.layers = LayerStore(self.root, self.database, self.content, self.workers)
        self.overlays = OverlayStore(self.root, self.layers, self.workers)
        self.images = ImageService(
            self.root,
            ImageStore(self.database, self.layers),
            self.layers,
            self.content,
            self.workers,
            emit=lambda *_: None,
            in_use=lambda *_: (),
            images_in_use=lambda: (),
            apply_changes=apply_changes,
            open_web_file=no_web,
        )
        self.runner = ChrootRunner()
        self.service = BuildService(self.root, self.images, self.layers, self.overlays, self.workers, self.database, self.runner)
        async for _ in self.images.load(_once(busybox_archive())):
            pass
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.service.close()
        await self.workers.close()
        self.database.close()

    async def build(self, files: Mapping[str, str | bytes] | bytes, **options: Any) -> Built:
        """Build a context given as files (or as the body itself); ``options`` are fields of BuildOptions."""
        body = files if isinstance(files, bytes) else pack(files)
        built = Built()
        async for message in self.service.build(_once(body), BuildOptions(**options)):
            built.messages.append(message)
        return built

    def image(self, built: Built) -> Image:
        return self.images.resolve(built.image_id)

    async def tree(self, image: Image) -> Tree:
        """The root file system of an image, in a directory of its own."""
        target = Path(tempfile.mkdtemp(prefix="tree-", dir=self.root))
        (target / "merged").mkdir()
        lower = ":".join(self.overlays.read_only(image.top_layer).lower)
        script = (
            f"cd {self.root} && mount -t overlay overlay -o lowerdir={lower}:layers/empty {target}/merged"
            f" && cp -a --preserve=all {target}/merged {target}/copy"
        )
        (self.root / "layers/empty").mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec("unshare", "--mount", "sh", "-c", script)
        assert await process.wait() == 0
        return Tree(target / "copy")


@dataclass(frozen=True)
class Tree:
    """Files of an image, for looking at."""

    path: Path

    def text(self, name: str) -> str:
        return (self.path / name.lstrip("/")).read_text()

    def stat(self, name: str) -> os.stat_result:
        return (self.path / name.lstrip("/")).lstat()

    def mode(self, name: str) -> int:
        return self.stat(name).st_mode & 0o7777

    def owner(self, name: str) -> tuple[int, int]:
        found = self.stat(name)
        return found.st_uid, found.st_gid

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path / name.lstrip("/"))

    def names(self, name: str) -> list[str]:
        return sorted(os.listdir(self.path / name.lstrip("/")))


def pack(files: Mapping[str, str | bytes], *, uid: int = 1000, mode: int = 0o644) -> bytes:
    """A context as a client sends it; names that end with a slash are directories, ``name -> target`` are links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            link, arrow, target = name.partition(" -> ")
            entry = tarfile.TarInfo(link)
            entry.uid = entry.gid = uid
            entry.mode = mode
            entry.mtime = 1_600_000_000
            data = content.encode() if isinstance(content, str) else content
            if arrow:
                entry.type, entry.linkname, data = tarfile.SYMTYPE, target, b""
            elif name.endswith("/"):
                entry.type, entry.mode, data = tarfile.DIRTYPE, 0o755, b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]

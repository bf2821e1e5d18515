"""Use cases of the builder: take in a context, build its target, name the image; list and prune the build cache."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from kitepy.engine.builder.cache import BuildCache, CacheEntry
from kitepy.engine.builder.failures import StepFailed
from kitepy.engine.builder.output import BuildOutput
from kitepy.engine.builder.request import BuildRequest, Context, Tools
from kitepy.engine.builder.solver import Plan, Solver
from kitepy.engine.builder.stages import read_dockerfile
from kitepy.engine.builder.state import StageState
from kitepy.engine.builder.steps import StepLimits, StepRunner
from kitepy.engine.model.errors import EngineError, InvalidParameter, SystemFailure, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, Digest
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.model.timestamps import format_time, parse_time
from kitepy.engine.services.base_images import BaseImages, Puller
from kitepy.engine.services.ports import BuildOptions
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.storage.worker import WorkerPool

log = logging.getLogger(__name__)

_MESSAGES_AHEAD = 256
_PRUNE_FILTERS = ("until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!")
_CACHE_TYPE = "regular"
_SPOOL_BYTES = 1 << 20

Message = dict[str, Any]


class Images(Protocol):
    """What building asks of the images on this machine."""

    def resolve(self, name: str) -> Image: ...
    def create_image(
        self, raw_config: bytes, layers: Sequence[ChainId] | None = None, *, parent_id: Digest | None = None
    ) -> Image: ...
    def set_tag(self, image: Image, reference: Reference) -> None: ...
    async def list(self, *, all: bool = False) -> Sequence[dict[str, Any]]: ...


class BuildService:
    """Images made from Dockerfiles. Belongs to one event loop."""

    def __init__(
        self,
        data_root: Path,
        images: Images,
        layers: LayerStore,
        overlays: OverlayStore,
        workers: WorkerPool,
        database: Database,
        runner: StepRunner,
        *,
        puller: Puller | None = None,
        clock: Callable[[], int] = time.time_ns,
        emit: Callable[[str, str, str, dict[str, str]], None] = lambda *_: None,
    ) -> None:
        self._root = data_root
        self._emit = emit
        self._images = images
        self._puller = puller
        self._layers = layers
        self._workers = workers
        self._clock = clock
        self._cache = BuildCache(database, lambda chain: layers.find(chain) is not None, clock)
        layers.add_holder(self._cache.layers)
        self._tools = Tools(
            find_image=BaseImages(images, puller),
            layers=layers,
            overlays=overlays,
            workers=workers,
            cache=self._cache,
            runner=runner,
            cache_mounts=data_root / "build-cache",
            clock=clock,
        )
        self._cleaning: set[asyncio.Task[None]] = set()
        (data_root / "tmp").mkdir(mode=0o711, parents=True, exist_ok=True)

    async def build(self, context: AsyncIterator[bytes], options: BuildOptions) -> AsyncIterator[Message]:
        """Messages of a build, in the classic builder's words.

        What is wrong with the request or its Dockerfile is raised before the first message; what fails later becomes the
        last message. Closing the iterator ends the build, kills the command that runs and leaves no half-made layer.
        """
        references = _check(options)
        messages: asyncio.Queue[Message | None] = asyncio.Queue(_MESSAGES_AHEAD)
        begun = False

        async def work() -> None:
            try:
                await self._build(context, options, references, messages)
            finally:
                # Whoever reads must learn of the end; whoever closed the iterator doesn't read any more.
                with contextlib.suppress(asyncio.QueueFull):
                    messages.put_nowait(None)

        task = asyncio.create_task(work(), name="build")
        waiting: asyncio.Task[Message | None] | None = None
        try:
            while True:
                waiting = asyncio.create_task(messages.get())
                await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done() and messages.empty():
                    break
                message = await waiting
                if message is None:
                    break
                begun = True
                yield message
            try:
                await task
            except EngineError as error:
                if not begun:
                    raise
                yield _failure(error)
        finally:
            task.cancel()
            if waiting is not None:
                waiting.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Wait until what builds have left is removed; a build that still runs must be closed first."""
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    async def prune(self, all: bool, filters: Filters, keep_bytes: int) -> dict[str, Any]:
        """Forget cached steps, the least recently used first, and remove layers that nothing needs then.

        Without ``all``, steps without a layer and those whose layer belongs to an image stay: they cost nothing.
        ``keep_bytes`` stops the removal as soon as the rest is no larger.
        """
        filters.require_known(_PRUNE_FILTERS)
        now_ns = self._clock()
        until_ns = min(
            (parse_time(text, now_ns=now_ns) for key in ("until", "unused-for") for text in filters.get(key)), default=now_ns
        )
        entries = self._cache.entries()
        of_images = await self._image_layers()
        kept = set() if all else of_images
        left = sum(entry.record.size_bytes for entry in entries)
        doomed: list[CacheEntry] = []
        for entry in entries:
            if entry.used_ns > until_ns or not _chosen(entry, filters, shared=entry.record.layer in of_images):
                continue
            if not all and (entry.record.layer is None or entry.record.layer in kept):
                continue
            if keep_bytes and left <= keep_bytes:
                break
            doomed.append(entry)
            left -= entry.record.size_bytes
        if all and not filters and not keep_bytes:
            await self._remove("build-cache")
        self._cache.remove(entry.key for entry in doomed)
        garbage = self._layers.mark_garbage()
        await self._layers.remove_marked()
        reclaimed = sum(layer.size_bytes for layer in garbage)
        self._emit("builder", "prune", "", {"reclaimed": str(reclaimed)})
        return {"CachesDeleted": [entry.key for entry in doomed] or None, "SpaceReclaimed": reclaimed}

    async def cache_records(self) -> list[dict[str, Any]]:
        """The cache as ``GET /system/df`` lists it (BuildCache of the Engine API)."""
        shared = await self._image_layers()
        return [_record(entry, entry.record.layer in shared) for entry in self._cache.entries()]

    async def _build(
        self,
        body: AsyncIterator[bytes],
        options: BuildOptions,
        references: Sequence[Reference],
        messages: asyncio.Queue[Message | None],
    ) -> None:
        name = f"tmp/build-{secrets.token_hex(8)}"
        directory = self._root / name
        await asyncio.to_thread(_make_directories, directory)
        solver: Solver | None = None
        try:
            text = await self._take_in(body, options.dockerfile, directory)
            request = _request(options)
            plan = await asyncio.to_thread(lambda: Plan(read_dockerfile(text), request))
            output = BuildOutput(messages.put, plan.steps, quiet=options.quiet)
            bases = BaseImages(self._images, self._puller, always_pull=options.pull, auths=options.registry_auths)
            tools = replace(self._tools, find_image=bases)
            solver = Solver(plan, request, Context(directory / "context", directory / "work"), tools, output)
            try:
                image = self._record(await solver.solve())
                for argument in plan.unused_arguments():
                    await output.stream(f"[Warning] One or more build-args [{argument}] were not consumed\n")
                for reference in references:
                    self._images.set_tag(image, reference)
                await output.done(image.id, [reference.familiar for reference in references])
            except EngineError as error:
                await output.failed(str(error), error.code if isinstance(error, StepFailed) else None)
        finally:
            # Removing a large context takes a while, and the client needn't wait for it.
            cleaning = asyncio.create_task(self._clean_up(solver, name), name="clean up after a build")
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)

    async def _clean_up(self, solver: Solver | None, name: str) -> None:
        if solver is not None:
            await solver.close()
        await self._remove(name)

    async def _take_in(self, body: AsyncIterator[bytes], dockerfile: str, directory: Path) -> str:
        """Receive the context and unpack it; gives the Dockerfile's text."""
        spool = directory / "body"
        fd = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            pieces: list[bytes] = []
            async for piece in body:
                pieces.append(piece)
                if sum(map(len, pieces)) >= _SPOOL_BYTES:
                    await asyncio.to_thread(_write_all, fd, b"".join(pieces))
                    pieces.clear()
            await asyncio.to_thread(_write_all, fd, b"".join(pieces))
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        params = {"root": str(directory / "context"), "dockerfile": dockerfile}
        result = await self._workers.run("kitepy.engine.builder.unpacking:unpack_context", params, [fd])
        await asyncio.to_thread(spool.unlink)
        text = result["dockerfile"]
        if text is None:
            raise InvalidParameter(
                f"Cannot locate specified Dockerfile: {dockerfile}: there is no such file in the build context"
            )
        if not text.strip():
            raise InvalidParameter(f"the Dockerfile ({result['name']}) cannot be empty: begin it with FROM")
        return str(text)

    async def _image_layers(self) -> set[ChainId]:
        """All layers that belong to images."""
        summaries = await self._images.list(all=True)
        return {layer for summary in summaries for layer in self._images.resolve(summary["Id"]).layers}

    def _record(self, state: StageState) -> Image:
        if state.base is not None and not state.changed:
            return state.base
        if not state.changed:
            raise InvalidParameter("No image was generated. FROM scratch alone makes none: add an instruction")
        return self._images.create_image(state.document().encode(), state.layers)

    async def _remove(self, name: str) -> None:
        job = "kitepy.engine.storage.jobs:remove_trees"
        try:
            await self._workers.run(job, {"base": str(self._root), "names": [name]})
        except EngineError as error:
            # The next start of the engine empties tmp.
            log.warning("cannot remove %s: %s", name, error)


def _check(options: BuildOptions) -> list[Reference]:
    """The tags to give; raises for what can't be done."""
    if options.remote:
        raise Unsupported("building from a URL or a git repository is not possible yet: send the folder as the build context")
    if options.squash:
        raise Unsupported("squash is not supported: use a multi-stage build to get few layers")
    references: list[Reference] = []
    for tag in options.tags:
        reference = parse_reference(tag)
        if reference.digest is not None:
            raise InvalidParameter("build tag cannot contain a digest")
        reference = reference.with_default_tag()
        if reference not in references:
            references.append(reference)
    return references


def _request(options: BuildOptions) -> BuildRequest:
    return BuildRequest(
        dockerfile=options.dockerfile,
        target=options.target,
        platform=options.platform,
        build_args=options.build_args,
        labels=options.labels,
        no_cache=options.no_cache,
        remove_intermediate=options.remove_intermediate,
        network=options.network_mode,
        extra_hosts=options.extra_hosts,
        shm_size_bytes=options.shm_size_bytes,
        cgroup_parent=options.cgroup_parent,
        security_opt=options.security_opt,
        limits=StepLimits(
            memory_bytes=options.memory_bytes,
            memory_swap_bytes=options.memory_swap_bytes,
            cpu_shares=options.cpu_shares,
            cpu_period=options.cpu_period,
            cpu_quota=options.cpu_quota,
            cpuset_cpus=options.cpuset_cpus,
            cpuset_mems=options.cpuset_mems,
            ulimits=options.ulimits,
        ),
    )


def _chosen(entry: CacheEntry, filters: Filters, *, shared: bool) -> bool:
    """Whether filters of prune mean a step: none has labels or parents that are told, and none is in use."""
    return (
        filters.pattern("id", entry.key)
        and filters.pattern("description", entry.record.description)
        and filters.exact("type", _CACHE_TYPE)
        and not any(key in filters for key in ("parent", "inuse", "label"))
        and ("shared" not in filters or shared)
        and ("private" not in filters or not shared)
    )


def _failure(error: EngineError) -> Message:
    return {"errorDetail": {"message": str(error)}, "error": str(error)}


def _record(entry: CacheEntry, shared: bool) -> dict[str, Any]:
    return {
        "ID": entry.key,
        "Parents": None,
        "Type": _CACHE_TYPE,
        "Description": entry.record.description,
        "InUse": False,
        "Shared": shared,
        "Size": entry.record.size_bytes,
        "CreatedAt": entry.record.created,
        "LastUsedAt": format_time(entry.used_ns),
        "UsageCount": 1,
    }


def _make_directories(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for name in ("context", "work"):
        (directory / name).mkdir()
        (directory / name).chmod(0o755)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise SystemFailure(f"cannot store the build context: {error.strerror}") from error

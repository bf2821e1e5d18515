"""The steps that change files without running anything, COPY, ADD and WORKDIR: prepared here, done by worker jobs."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitepy.engine.builder import downloads, metadata
from kitepy.engine.builder.failures import InstructionError
from kitepy.engine.builder.instructions import Copy, Workdir
from kitepy.engine.builder.ownership import parse_mode
from kitepy.engine.builder.patterns import literally
from kitepy.engine.builder.request import Tools
from kitepy.engine.builder.stages import Stage
from kitepy.engine.builder.state import StageState
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.oci import ChainId

if TYPE_CHECKING:
    from kitepy.engine.builder.solver import Solver

_JOBS = "kitepy.engine.builder"


@dataclass(frozen=True)
class Step:
    """A step that is ready to be looked up: ``inputs`` go into its cache key, ``make`` gives its layer, if it makes one."""

    make: Callable[[], Awaitable[ChainId | None]] | None
    inputs: Mapping[str, str | Mapping[str, str] | Iterable[str]]


@dataclass(frozen=True)
class StepRoot:
    """The writable root of one step."""

    root: OverlayRoot
    tools: Tools
    top: ChainId | None

    def target(self) -> dict[str, Any]:
        """As worker jobs take it."""
        root = self.root
        return {"base": str(root.base), "lower": list(root.lower), "upper": root.upper, "work": root.work, **_flavour(root)}

    async def commit(self) -> ChainId:
        """Make what was written a layer."""
        layer = await self.tools.layers.commit_directory(self.top, self.tools.overlays.upper_path(self.root))
        return layer.chain_id


async def prepare_copy(solver: Solver, stage: Stage, state: StageState, copy: Copy) -> Step:
    """Find out what COPY or ADD means now; its digest makes the cache key."""
    tools = solver.tools
    if copy.chmod:
        try:
            parse_mode(copy.chmod)
        except ValueError as problem:
            raise InstructionError(str(problem), copy.line) from None
    scratch = solver.new_directory()
    groups = await _groups(solver, stage, copy, scratch)
    params: dict[str, Any] = {
        "groups": groups,
        "excludes": list(copy.excludes),
        "parents": copy.parents,
        "owners": bool(copy.from_),
        "scratch": scratch,
    }
    found = await run_job(tools, "copying:survey", params, copy.line)

    async def make() -> ChainId:
        async with solver.step_root(state) as step:
            job = {
                **params,
                "target": step.target(),
                "destination": copy.destination,
                "workdir": state.config.working_dir or "/",
                "chown": copy.chown,
                "chmod": copy.chmod,
            }
            result = await run_job(tools, "copying:apply", job, copy.line)
            for warning in result["warnings"]:
                await solver.output.note(f"[Warning] {warning}")
            return await step.commit()

    return Step(make, {"content": found["digest"]})


def prepare_workdir(solver: Solver, state: StageState, workdir: Workdir) -> Step:
    """WORKDIR makes its directory, and a layer only if it had to."""

    async def make() -> ChainId | None:
        async with solver.step_root(state) as step:
            job = {
                "target": step.target(),
                "scratch": solver.new_directory(),
                "path": metadata.working_directory(state.config, workdir.path),
                "user": state.config.user,
            }
            result = await run_job(solver.tools, "directories:make_directory", job, workdir.line)
            return await step.commit() if result["made"] else None

    return Step(make, {})


def overlay_tree(tools: Tools, top: ChainId | None) -> dict[str, Any]:
    """Layers as worker jobs read them."""
    root = tools.overlays.read_only(top)
    return {"base": str(root.base), "lower": list(root.lower), **_flavour(root)}


def _flavour(root: OverlayRoot) -> dict[str, str]:
    return {"flavour": root.flavour.value}


async def _groups(solver: Solver, stage: Stage, copy: Copy, scratch: str) -> list[dict[str, Any]]:
    context = {"path": str(solver.context.root)}
    origin = ""
    if copy.from_:
        top, origin = await solver.source_top(stage, copy, copy.from_)
        context = overlay_tree(solver.tools, top)
    urls = [source for source in copy.sources if copy.is_add and downloads.is_url(source)]
    paths = [source for source in copy.sources if source not in urls]
    groups: list[dict[str, Any]] = []
    if paths:
        unpack = copy.is_add and copy.unpack is not False
        groups.append({"tree": context, "sources": paths, "origin": origin, "unpack": unpack})
    if copy.checksum and not urls:
        raise InstructionError("checksum can't be specified for local or git sources", copy.line)
    for url in urls:
        directory = os.path.join(scratch, f"download{len(groups)}")
        try:
            name = await downloads.fetch(url, directory, copy.destination, copy.checksum)
        except (InvalidParameter, Unsupported) as error:
            raise InstructionError(f"ADD failed: {error}", copy.line) from None
        groups.append({"tree": {"path": directory}, "sources": [literally(name)], "origin": url, "unpack": copy.unpack is True})
    if copy.contents:
        directory = os.path.join(scratch, "inline")
        os.mkdir(directory)
        for content in copy.contents:
            if posixpath.basename(content.name) != content.name or content.name in (".", ".."):
                raise InstructionError(f"the heredoc name {content.name} can't be a file name", copy.line)
            await asyncio.to_thread(write_file, os.path.join(directory, content.name), content.text, 0o644)
        names = [literally(content.name) for content in copy.contents]
        groups.append({"tree": {"path": directory}, "sources": names, "origin": "the Dockerfile", "unpack": False})
    return groups


def write_file(path: str, text: str, mode: int) -> None:
    """A file of the build's own; its time is fixed, since nothing about it is older or newer."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        stream.write(text)
    os.chmod(path, mode)


async def run_job(tools: Tools, job: str, params: dict[str, Any], line: int) -> dict[str, Any]:
    """Run one of the builder's worker jobs; what it says against its input is told with the Dockerfile's line."""
    try:
        return await tools.workers.run(f"{_JOBS}.{job}", params)
    except InvalidParameter as error:
        raise InstructionError(str(error), line) from None

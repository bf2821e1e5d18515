"""The step that runs a command: what is executed with which environment and mounts, and what its end means for the build."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitepy.engine.builder import metadata
from kitepy.engine.builder.failures import InstructionError, StepFailed
from kitepy.engine.builder.file_steps import Step, StepRoot, overlay_tree, run_job, write_file
from kitepy.engine.builder.instructions import Run, RunMount
from kitepy.engine.builder.output import CommandOutput
from kitepy.engine.builder.parser import heredoc_of
from kitepy.engine.builder.reading import check_network
from kitepy.engine.builder.stages import Stage
from kitepy.engine.builder.state import StageState
from kitepy.engine.builder.steps import RunStep, StepMount
from kitepy.engine.kernel.paths import open_in_root
from kitepy.engine.model.errors import StartFailed
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.oci import ChainId

if TYPE_CHECKING:
    from kitepy.engine.builder.solver import Solver

_SCRIPTS = "/dev/pipes"
_MOUNTED = (
    *("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev", "/proc", "/sys/fs/cgroup", "/sys"),
    *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
)


async def prepare_run(solver: Solver, stage: Stage, state: StageState, run: Run) -> Step:
    """Decide what is executed; the cache key knows everything but proxies and limits."""
    try:
        check_network(run.network)
    except ValueError as problem:
        raise InstructionError(str(problem), run.line) from None
    scratch = solver.new_directory()
    argv, script = command(run, metadata.shell(state.config))
    mounts: list[StepMount] = []
    if script is not None:
        directory = os.path.join(scratch, "script")
        await asyncio.to_thread(os.mkdir, directory, 0o755)
        await asyncio.to_thread(write_file, os.path.join(directory, os.path.basename(argv[0])), script, 0o755)
        mounts.append(StepMount(_SCRIPTS, Path(directory), read_only=True))
    digests: list[str] = []
    caches: list[RunMount] = []
    for mount in run.mounts:
        match mount.kind:
            case "bind":
                digest, made = await _bind(solver, stage, run, mount, state)
                digests.append(digest)
                mounts.append(made)
            case "tmpfs":
                mounts.append(StepMount(_target(state, run, mount), size_bytes=mount.size_bytes))
            case "cache":
                mounts.append(await asyncio.to_thread(_cache_mount, solver, state, run, mount))
                caches.append(mount)
            case _:
                if mount.required:
                    raise InstructionError(
                        f"RUN --mount=type={mount.kind},required needs a BuildKit session, which this builder does not have",
                        run.line,
                    )
                await solver.output.note(
                    f"[Warning] --mount=type={mount.kind} is left out: the classic protocol carries no secrets"
                )
    recorded = state.arguments.recorded(state.env)

    async def make() -> ChainId:
        async with solver.step_root(state) as root, AsyncExitStack() as locks:
            for cache in sorted(caches, key=lambda cache: cache.id or cache.target):
                if cache.sharing != "shared":
                    await locks.enter_async_context(solver.cache_lock(cache.id or cache.target))
            step = _step(solver, state, run, argv, root, mounts, recorded)
            async with solver.run_slots:
                await _execute(solver, step, run)
            await _tidy(solver, root, step, run)
            return await root.commit()

    return Step(make, {"argv": argv, "script": script or "", "arguments": recorded, "mounts": digests})


def command(run: Run, shell: tuple[str, ...]) -> tuple[list[str], str | None]:
    """What is executed, and the text of the script that ``argv[0]`` names when the here-document is one. Pure.

    A here-document alone is the script for the shell, or a program of its own when it begins with ``#!``. Otherwise the
    shell gets the command with its here-documents, as it was written.
    """
    line = run.command
    if not run.heredocs or not line.in_shell:
        return line.argv(shell), None
    (text,) = line.words
    first = run.heredocs[0]
    if heredoc_of(text) is not None:
        if first.content.lstrip("\t").startswith("#!"):
            return [f"{_SCRIPTS}/{first.name}"], first.text
        return [*shell, first.text], None
    for heredoc in run.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return [*shell, text], None


def _step(
    solver: Solver,
    state: StageState,
    run: Run,
    argv: Sequence[str],
    root: StepRoot,
    mounts: Sequence[StepMount],
    recorded: dict[str, str],
) -> RunStep:
    request = solver.request
    env = {"PATH": metadata.DEFAULT_PATH, **solver.arguments.proxies, **recorded, **state.env}
    return RunStep(
        id=new_id(),
        root=root.root,
        argv=tuple(argv),
        env=tuple(f"{name}={value}" for name, value in env.items()),
        user=state.config.user,
        working_dir=state.config.working_dir or "/",
        network=request.network if run.network == "default" else run.network,
        extra_hosts=request.extra_hosts,
        shm_size_bytes=request.shm_size_bytes,
        cgroup_parent=request.cgroup_parent,
        security_opt=request.security_opt,
        limits=request.limits,
        mounts=tuple(mounts),
    )


async def _execute(solver: Solver, step: RunStep, run: Run) -> None:
    output = solver.output
    await output.note(f"Running in {short_id(step.id)}")
    told = CommandOutput(output)
    try:
        code = await solver.tools.runner.run(step, told.write)
    except StartFailed as error:
        raise StepFailed(f"{error} (Dockerfile line {run.line})", error.exit_code) from error
    finally:
        await told.finish()
    if code != 0:
        raise StepFailed(f"The command '{' '.join(step.argv)}' returned a non-zero code: {code}", code)
    if solver.request.remove_intermediate:
        await output.note(f"Removed intermediate container {short_id(step.id)}")


async def _tidy(solver: Solver, root: StepRoot, step: RunStep, run: Run) -> None:
    """Take away the mount points that had to be made, so that they don't become part of the image."""
    paths = [*_MOUNTED, *(mount.target for mount in step.mounts)]
    upper = solver.tools.overlays.upper_path(root.root)
    changed = set(await asyncio.to_thread(os.listdir, upper))
    affected = [path for path in paths if path.strip("/").split("/")[0] in changed]
    if affected:
        target: dict[str, Any] = {**root.target(), "paths": affected}
        await run_job(solver.tools, "directories:tidy", target, run.line)


async def _bind(solver: Solver, stage: Stage, run: Run, mount: RunMount, state: StageState) -> tuple[str, StepMount]:
    """Copy what is to be mounted into a directory of the build's own, unless nobody can write to it anyway."""
    path: Path | None = None
    tree: dict[str, Any] = {"path": str(solver.context.root)}
    origin = ""
    if mount.from_:
        top, origin = await solver.source_top(stage, run, mount.from_)
        tree = overlay_tree(solver.tools, top)
    source = mount.source or "."
    if mount.read_only and not mount.from_:
        # Nothing else writes into the context, so it can be mounted as it is.
        path = await asyncio.to_thread(_find_in_context, solver.context.root, source)
    scratch = solver.new_directory()
    params = {
        "groups": [{"tree": tree, "sources": [source], "origin": origin, "unpack": False}],
        "excludes": [],
        "parents": False,
        "owners": True,
        "scratch": scratch,
    }
    found = await run_job(solver.tools, "copying:survey", params, run.line)
    if path is not None:
        return found["digest"], StepMount(_target(state, run, mount), path, read_only=True)
    root = solver.tools.overlays.create_for_step(None)
    solver.on_close(root)
    target = StepRoot(root, solver.tools, None).target()
    destination = {"destination": "/mount", "workdir": "/", "chown": "", "chmod": ""}
    await run_job(solver.tools, "copying:apply", {**params, "target": target, **destination}, run.line)
    path = solver.tools.overlays.upper_path(root) / "mount"
    return found["digest"], StepMount(_target(state, run, mount), path, read_only=mount.read_only)


def _find_in_context(context: Path, source: str) -> Path | None:
    """Where a path leads, links followed inside the context; None when it leads nowhere (the survey then says so)."""
    root_fd = os.open(context, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_in_root(root_fd, source)
    except OSError:
        return None
    finally:
        os.close(root_fd)
    try:
        return Path(os.readlink(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


def _cache_mount(solver: Solver, state: StageState, run: Run, mount: RunMount) -> StepMount:
    if mount.from_:
        raise InstructionError("RUN --mount=type=cache,from= is not supported: caches begin empty", run.line)
    target = _target(state, run, mount)
    name = hashlib.sha256((mount.id or target).encode()).hexdigest()
    if mount.sharing == "private":
        name += f"-{secrets.token_hex(4)}"
    path = solver.tools.cache_mounts / name
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        pass  # filled by an earlier step, or made by one that runs now
    else:
        os.chown(path, mount.uid, mount.gid)
        path.chmod(0o755 if mount.mode is None else mount.mode)
    return StepMount(target, path, read_only=mount.read_only)


def _target(state: StageState, run: Run, mount: RunMount) -> str:
    target = metadata.working_directory(state.config, mount.target) if mount.target else "/"
    if target == "/":
        raise InstructionError(f'invalid mount target "{mount.target}": nothing can be mounted on the root directory', run.line)
    return target

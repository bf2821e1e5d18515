"""Builds the stages that a target needs: side by side where they don't depend on each other, step by step in each.

What an instruction does to files is in ``file_steps`` and ``run_steps``, what it does to the configuration in ``metadata``;
here is the order, the cache and the image in the making.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from kitepy.engine.builder import arguments, file_steps, metadata, run_steps, stages
from kitepy.engine.builder.cache import CacheRecord, step_key
from kitepy.engine.builder.expansion import Lexer
from kitepy.engine.builder.failures import DockerfileError, InstructionError
from kitepy.engine.builder.instructions import Arg, Cmd, Copy, Instruction, Maintainer, Run, Workdir, expand
from kitepy.engine.builder.output import BuildOutput
from kitepy.engine.builder.reading import read_line
from kitepy.engine.builder.request import BuildRequest, Context, Tools
from kitepy.engine.builder.stages import SCRATCH, Dockerfile, Stage
from kitepy.engine.builder.state import StageState, from_image, from_scratch
from kitepy.engine.model.errors import EngineError, InvalidParameter
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.oci import ChainId, DiffId
from kitepy.engine.model.platform import Platform, host_platform, parse_platform
from kitepy.engine.model.timestamps import format_time

log = logging.getLogger(__name__)

_LEAST_COMMANDS = 4


class Plan:
    """A Dockerfile with its outer arguments known: which stages are built, and how many steps that is. Pure."""

    def __init__(self, dockerfile: Dockerfile, request: BuildRequest) -> None:
        self.dockerfile = dockerfile
        self.escape = dockerfile.document.escape
        self.target = stages.find_target(dockerfile.stages, request.target)
        self.host = host_platform()
        self.platform = self._platform(request.platform) if request.platform else self.host
        try:
            self.scope = arguments.declare_globals(
                dockerfile.arguments,
                request.build_args,
                self.host,
                self.platform,
                request.target or "default",
                self.escape,
            )
        except ValueError as problem:
            raise DockerfileError(str(problem), dockerfile.arguments[0].line) from None
        self.bases = [self._base(stage) for stage in dockerfile.stages]
        self.needed = stages.needed_stages(dockerfile.stages, self.bases, self.target)
        if not self.bases[self.target.index]:
            raise DockerfileError("the base name of FROM is empty", self.target.origin.line)

    @property
    def steps(self) -> int:
        """How many steps are announced."""
        return len(self.dockerfile.arguments) + sum(1 + len(stage.instructions) for stage in self.needed)

    def unused_arguments(self) -> list[str]:
        """Build arguments that the client gave and that nothing declares."""
        declared = {
            name
            for instruction in (
                *self.dockerfile.arguments,
                *(instruction for stage in self.needed for instruction in stage.instructions),
            )
            if isinstance(instruction, Arg)
            for name, _ in instruction.arguments
        }
        known = declared | arguments.PROXIES | self.scope.predefined
        return sorted(name for name in self.scope.given if name not in known)

    def stage_platform(self, stage: Stage) -> Platform:
        """The platform that FROM asks for, else the build's."""
        if not stage.origin.platform:
            return self.platform
        text = self._expand(stage, stage.origin.platform)
        try:
            return self._platform(text)
        except InvalidParameter as problem:
            raise DockerfileError(f"failed to parse platform: {problem}", stage.origin.line) from None

    def _platform(self, text: str) -> Platform:
        return self.host if text == "local" else parse_platform(text)

    def _base(self, stage: Stage) -> str:
        base = self._expand(stage, stage.origin.base)
        if not base:
            raise DockerfileError(
                f"base name ({stage.origin.base}) should not be blank: declare its ARG with a value before the first FROM",
                stage.origin.line,
            )
        return base

    def _expand(self, stage: Stage, text: str) -> str:
        try:
            return Lexer(self.scope.outer, escape=self.escape).expand(text)
        except ValueError as problem:
            raise DockerfileError(str(problem), stage.origin.line) from None


class Solver:
    """One build."""

    def __init__(self, plan: Plan, request: BuildRequest, context: Context, tools: Tools, output: BuildOutput) -> None:
        self.plan = plan
        self.request = request
        self.context = context
        self.tools = tools
        self.output = output
        self.arguments = plan.scope
        self.run_slots = asyncio.Semaphore(max(_LEAST_COMMANDS, 2 * (os.cpu_count() or 1)))
        """How many commands of this build may run at once."""
        self._tasks: dict[int, asyncio.Task[StageState]] = {}
        self._held = contextlib.ExitStack()
        self._roots: list[OverlayRoot] = []
        self._removals: list[asyncio.Task[None]] = []
        self._running = 0

    async def solve(self) -> StageState:
        """The finished target. Layers that it refers to stay until ``close``."""
        for argument in self.plan.dockerfile.arguments:
            await self.output.step(argument.source)
            await self.output.stream(" ---> \n")
        for stage in self.plan.needed:
            self._tasks[stage.index] = asyncio.create_task(self._stage(stage), name=f"build stage {stage.label}")
        try:
            done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        state = self._tasks[self.plan.target.index].result()
        return state.with_labels(self.request.labels, self.now())

    async def close(self) -> None:
        """Let go of the layers, and remove what was made for mounting."""
        self._held.close()
        self._removals += [asyncio.create_task(self.tools.overlays.remove(root)) for root in self._roots]
        for outcome in await asyncio.gather(*self._removals, return_exceptions=True):
            if isinstance(outcome, EngineError):
                log.warning("cannot remove a build step's files: %s", outcome)  # the next start of the engine does

    def now(self) -> str:
        """The time as image documents have it."""
        return format_time(self.tools.clock())

    async def source_top(self, stage: Stage, instruction: Instruction, name: str) -> tuple[ChainId | None, str]:
        """The layers that ``from=name`` means, and how to call them in a message."""
        found = stages.source_stage(self.plan.dockerfile.stages, stage, instruction, name)
        if found is not None:
            return (await self._finished(found)).top, f"stage {found.label}"
        try:
            image = await self.tools.find_image(name, None, self.output.fetching)
        except EngineError as error:
            raise InstructionError(f"invalid from flag value {name}: {error}", 0) from error
        self._held.enter_context(self.tools.layers.hold(image.top_layer))
        return image.top_layer, f"image {name}"

    @contextlib.asynccontextmanager
    async def step_root(self, state: StageState) -> AsyncIterator[file_steps.StepRoot]:
        """A writable root on top of the state; what is not committed is removed."""
        root = self.tools.overlays.create_for_step(state.top)
        try:
            yield file_steps.StepRoot(root, self.tools, state.top)
        finally:
            # The next step needn't wait for this.
            self._removals.append(asyncio.create_task(self.tools.overlays.remove(root)))

    def new_directory(self) -> str:
        """A directory of this build's own, for one step."""
        path = os.path.join(self.context.scratch, secrets.token_hex(8))
        os.mkdir(path, 0o700)
        return path

    def on_close(self, root: OverlayRoot) -> None:
        """Have a root removed at the end of the build."""
        self._roots.append(root)

    def cache_lock(self, name: str) -> asyncio.Lock:
        """Makes steps wait for each other that want a cache for themselves."""
        return self.tools.cache_locks.setdefault(name, asyncio.Lock())

    async def _finished(self, stage: Stage) -> StageState:
        task = self._tasks.get(stage.index)
        if task is None:
            # Only a trigger of a base image can want a stage that nobody knew to be needed.
            task = self._tasks[stage.index] = asyncio.create_task(self._stage(stage))
        return await asyncio.shield(task)

    async def _stage(self, stage: Stage) -> StageState:
        base = self.plan.bases[stage.index]
        below = stages.base_stage(self.plan.dockerfile.stages, stage, base)
        inherited = None if below is None else await self._finished(below)
        for instruction in stage.instructions:
            if isinstance(instruction, Run) and not stages.sources_named(instruction):
                break
            # With nothing worth doing before it can copy, a stage begins after the others: its steps stay together.
            await self._sources(stage, instruction)
        self._running += 1
        self.output.side_by_side = self.output.side_by_side or self._running > 1
        try:
            number = await self.output.step(stage.origin.source)
            started = time.monotonic()
            state, triggers = await self._origin(stage, base, inherited)
            if base == SCRATCH and inherited is None:
                await self.output.stream(" ---> \n")
            else:
                await self.output.outcome(state.image_id, number, seconds=time.monotonic() - started, cached=False)
            if triggers:
                await self.output.stream(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
            for trigger in triggers:
                instruction = replace(read_line(trigger), line=stage.origin.line)
                state = await self._instruction(stage, state, instruction, None)
            for instruction in stage.instructions:
                await self._sources(stage, instruction)
                number = await self.output.step(instruction.source)
                state = await self._instruction(stage, state, instruction, number)
            return state
        finally:
            self._running -= 1

    async def _sources(self, stage: Stage, instruction: Instruction) -> None:
        """Wait for the stages that an instruction takes files from."""
        for name in stages.sources_named(instruction):
            source = stages.source_stage(self.plan.dockerfile.stages, stage, instruction, name)
            if source is not None:
                await self._finished(source)

    async def _origin(self, stage: Stage, base: str, inherited: StageState | None) -> tuple[StageState, Sequence[str]]:
        if inherited is not None:
            return replace(inherited, command_is_own=False), ()
        wanted = self.plan.stage_platform(stage)
        if base == SCRATCH:
            return from_scratch(wanted), ()
        asked = stage.origin.platform or self.request.platform
        image = await self.tools.find_image(base, wanted if asked else None, self.output.fetching)
        self._held.enter_context(self.tools.layers.hold(image.top_layer))
        state, triggers = from_image(image)
        if asked and (wanted.os, wanted.architecture) != (image.os, image.architecture or wanted.architecture):
            raise InstructionError(
                f"image with reference {base} was found but does not match the specified platform: "
                f"wanted {wanted}, actual: {state.platform}",
                stage.origin.line,
            )
        return state, triggers

    async def _instruction(self, stage: Stage, state: StageState, written: Instruction, number: int | None) -> StageState:
        started = time.monotonic()
        variables = state.arguments.variables(state.env)
        try:
            instruction = expand(
                written,
                Lexer(variables, escape=self.plan.escape),
                Lexer(variables, escape=self.plan.escape, plain_quotes=True),
            )
            if isinstance(instruction, Arg):
                state = replace(state, arguments=arguments.declare(state.arguments, instruction, self.arguments))
            config = metadata.apply(state.config, instruction, command_is_own=state.command_is_own)
            recorded = state.arguments.recorded(state.env)
            created_by = metadata.history_line(instruction, state.config, config, recorded)
        except ValueError as problem:
            raise DockerfileError(str(problem), written.line) from None
        state, cached = await self._perform(stage, state, instruction, created_by)
        state = replace(state, config=config)
        if isinstance(instruction, Cmd):
            state = replace(state, command_is_own=True)
        elif isinstance(instruction, Maintainer):
            state = replace(state, author=instruction.name)
        if number is not None:
            await self.output.outcome(state.image_id, number, seconds=time.monotonic() - started, cached=cached)
        return state

    async def _perform(
        self, stage: Stage, state: StageState, instruction: Instruction, created_by: str | None
    ) -> tuple[StageState, bool]:
        """Take the step's result from the cache, or make it. The configuration is changed by the caller."""
        tools = self.tools
        step: file_steps.Step
        match instruction:
            case Copy():
                step = await file_steps.prepare_copy(self, stage, state, instruction)
            case Run():
                step = await run_steps.prepare_run(self, stage, state, instruction)
            case Workdir():
                step = file_steps.prepare_workdir(self, state, instruction)
            case Arg():
                step = file_steps.Step(None, {"arguments": state.arguments.recorded({})})
            case _:
                step = file_steps.Step(None, {})
        key = step_key(state.top, state.config, instruction, **step.inputs)
        record = None if self.request.no_cache else tools.cache.find(key)
        if record is not None:
            await self.output.note("Using cache")
        cached = record is not None
        if record is None:
            layer = await step.make() if step.make is not None else None
            record = CacheRecord(
                created=self.now(),
                layer=layer,
                description=created_by or instruction.source,
                size_bytes=0 if layer is None else tools.layers.get(layer).size_bytes,
            )
            tools.cache.store(key, record)
            if layer is not None:
                # Now the cache holds it, and it needs no grace for being new any more.
                tools.layers.claim(layer)
        placed: tuple[ChainId, DiffId] | None = None
        if record.layer is not None:
            self._held.enter_context(tools.layers.hold(record.layer))
            placed = record.layer, tools.layers.get(record.layer).diff_id
        return state.with_step(created_by, record.created, placed), cached

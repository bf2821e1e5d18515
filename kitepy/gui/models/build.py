"""One build from the review sheet to the running container, as values and a pure reducer.

The output's lines live in a LogStore beside it; a step only remembers at which line it began.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path

from kitepy.gui.models.dockerfile import Instruction, failed_line


@dataclass(frozen=True)
class BuildReview:
    """What was dropped, read once, before anything is built."""

    context: Path
    dockerfile: Path
    source: str
    instructions: tuple[Instruction, ...]
    base_images: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    context_bytes: int
    context_files: int
    ignored_files: int
    suggested_name: str


@dataclass(frozen=True)
class BuildRequest:
    review: BuildReview
    tag: str
    run: bool = True
    nocache: bool = False


# What the gateway reports while a build runs.
@dataclass(frozen=True)
class ContextSent:
    bytes_sent: int
    bytes_total: int


@dataclass(frozen=True)
class StepStarted:
    index: int
    total: int
    text: str


@dataclass(frozen=True)
class OutputWritten:
    text: str


@dataclass(frozen=True)
class BuildFailed:
    message: str


@dataclass(frozen=True)
class BuildSucceeded:
    image_id: str


BuildEvent = ContextSent | StepStarted | OutputWritten | BuildFailed | BuildSucceeded


class BuildPhase(enum.Enum):
    WAITING = "waiting for the engine"
    SENDING = "sending files"
    BUILDING = "building"
    STARTING = "starting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def active(self) -> bool:
        return self in (BuildPhase.WAITING, BuildPhase.SENDING, BuildPhase.BUILDING, BuildPhase.STARTING)


class StepState(enum.Enum):
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class BuildStep:
    index: int
    total: int
    text: str
    state: StepState
    started_s: float
    finished_s: float | None = None
    first_line: int = 0

    def elapsed_s(self, now_s: float) -> float:
        return max(0.0, (self.finished_s if self.finished_s is not None else now_s) - self.started_s)


@dataclass(frozen=True)
class Build:
    id: str
    name: str
    request: BuildRequest
    started_s: float
    phase: BuildPhase = BuildPhase.WAITING
    steps: tuple[BuildStep, ...] = ()
    bytes_sent: int = 0
    bytes_total: int = 0
    finished_s: float | None = None
    image_id: str = ""
    container_id: str = ""
    error: str = ""
    error_line: int | None = None

    @property
    def total_steps(self) -> int:
        return self.steps[-1].total if self.steps else 0

    def elapsed_s(self, now_s: float) -> float:
        return max(0.0, (self.finished_s if self.finished_s is not None else now_s) - self.started_s)


# The classic builder writes this line under a step that it took from its cache.
_CACHE_MARK = "---> Using cache"


def _end_running_steps(steps: tuple[BuildStep, ...], state: StepState, now_s: float) -> tuple[BuildStep, ...]:
    return tuple(replace(step, state=state, finished_s=now_s) if step.finished_s is None else step for step in steps)


def _close_steps(steps: tuple[BuildStep, ...], now_s: float) -> tuple[BuildStep, ...]:
    return tuple(
        replace(step, state=StepState.CACHED if step.state is StepState.CACHED else StepState.DONE, finished_s=now_s)
        if step.finished_s is None
        else step
        for step in steps
    )


def advance(build: Build, event: BuildEvent, now_s: float, lines_written: int) -> Build:
    """The build after `event`; `lines_written` is how many output lines came before it."""
    if not build.phase.active:
        return build
    match event:
        case ContextSent(sent, total):
            return replace(build, phase=BuildPhase.SENDING, bytes_sent=sent, bytes_total=total)
        case StepStarted(index, total, text):
            started = BuildStep(index, total, text, StepState.RUNNING, now_s, first_line=lines_written)
            return replace(build, phase=BuildPhase.BUILDING, steps=(*_close_steps(build.steps, now_s), started))
        case OutputWritten(text):
            if _CACHE_MARK in text and build.steps and build.steps[-1].state is StepState.RUNNING:
                return replace(build, steps=(*build.steps[:-1], replace(build.steps[-1], state=StepState.CACHED)))
            return build
        case BuildSucceeded(image_id):
            return replace(build, phase=BuildPhase.STARTING, steps=_close_steps(build.steps, now_s), image_id=image_id)
        case BuildFailed(message):
            return fail(build, message, now_s)


def fail(build: Build, message: str, now_s: float) -> Build:
    """Ends the build with an error and puts it on the line of the Dockerfile that it belongs to."""
    running = [step for step in build.steps if step.finished_s is None]
    step = running[-1].index if running else None
    building = build.phase is not BuildPhase.STARTING
    return replace(
        build,
        phase=BuildPhase.FAILED,
        steps=_end_running_steps(build.steps, StepState.FAILED, now_s),
        finished_s=now_s,
        error=message,
        error_line=failed_line(build.request.review.instructions, message, step) if building else None,
    )


def cancel(build: Build, now_s: float) -> Build:
    if not build.phase.active:
        return build
    return replace(
        build, phase=BuildPhase.CANCELLED, steps=_end_running_steps(build.steps, StepState.CANCELLED, now_s), finished_s=now_s
    )


def finish(build: Build, container_id: str, now_s: float) -> Build:
    return replace(build, phase=BuildPhase.DONE, container_id=container_id, finished_s=now_s)

"""The stages of a Dockerfile and what they need of each other: which must be built for a target, and in which order.

Pure. A stage may be named by its name or by its number, and only by stages after it, so there are no cycles.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from kitepy.engine.builder.failures import DockerfileError
from kitepy.engine.builder.instructions import Arg, Copy, From, Instruction, Run
from kitepy.engine.builder.parser import Document, parse
from kitepy.engine.builder.reading import read_instruction

SCRATCH = "scratch"


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    index: int
    origin: From
    instructions: tuple[Instruction, ...]

    @property
    def label(self) -> str:
        """How people know it."""
        return self.origin.name or str(self.index)


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile that was read: arguments before the first FROM, then the stages."""

    document: Document
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]


def read_dockerfile(text: str) -> Dockerfile:
    """Parse a Dockerfile and check each instruction's form; DockerfileError names the line."""
    document = parse(text)
    arguments: list[Arg] = []
    stages: list[Stage] = []
    origin: From | None = None
    instructions: list[Instruction] = []
    for node in document.nodes:
        instruction = read_instruction(node, document.escape)
        if isinstance(instruction, From):
            if origin is not None:
                stages.append(Stage(len(stages), origin, tuple(instructions)))
            origin, instructions = instruction, []
        elif origin is not None:
            instructions.append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise DockerfileError(
                f"no build stage in current context: {node.keyword} comes before the first FROM, only ARG may", node.first_line
            )
    if origin is None:
        raise DockerfileError("no build stage in the Dockerfile: it needs a FROM", document.nodes[-1].last_line)
    stages.append(Stage(len(stages), origin, tuple(instructions)))
    return Dockerfile(document, tuple(arguments), tuple(stages))


def find_target(stages: Sequence[Stage], target: str) -> Stage:
    """The stage that the client asked for by name or number; the last one when it asked for none."""
    if not target:
        return stages[-1]
    found = find_stage(stages, target)
    if found is None:
        names = [stage.origin.name for stage in stages if stage.origin.name]
        similar = difflib.get_close_matches(target.lower(), names, n=1)
        hint = f" (did you mean {similar[0]}?)" if similar else ""
        raise DockerfileError(f"failed to reach build target {target} in Dockerfile{hint}")
    return found


def find_stage(stages: Sequence[Stage], name: str) -> Stage | None:
    """A stage by name, else by number; the latest of one name wins."""
    for stage in reversed(stages):
        if stage.origin.name and stage.origin.name == name.lower():
            return stage
    if name.isdigit() and int(name) < len(stages):
        return stages[int(name)]
    return None


def base_stage(stages: Sequence[Stage], stage: Stage, base: str) -> Stage | None:
    """The earlier stage that FROM means; None for an image or scratch. Numbers name images here."""
    for candidate in reversed(stages[: stage.index]):
        if candidate.origin.name and candidate.origin.name == base.lower():
            return candidate
    return None


def source_stage(stages: Sequence[Stage], stage: Stage, instruction: Instruction, name: str) -> Stage | None:
    """The earlier stage that ``--from`` means; None for an image."""
    found = find_stage(stages[: stage.index], name)
    if found is None and name.isdigit():
        raise DockerfileError(f"invalid from flag value {name}: there is no stage {name} before this one", instruction.line)
    if found is None and name.lower() == stage.origin.name:
        raise DockerfileError(f"invalid from flag value {name}: a stage can't copy from itself", instruction.line)
    return found


def sources_named(instruction: Instruction) -> list[str]:
    """What an instruction's ``--from`` and ``--mount=from=`` name."""
    names: list[str] = []
    if isinstance(instruction, Copy) and instruction.from_:
        names.append(instruction.from_)
    if isinstance(instruction, Run):
        names += [mount.from_ for mount in instruction.mounts if mount.from_]
    for name in names:
        if "$" in name:
            raise DockerfileError(
                f"variables can't be used in from={name}: give the image a stage of its own (FROM {name} AS ...)",
                instruction.line,
            )
    return names


def needed_stages(stages: Sequence[Stage], bases: Sequence[str], target: Stage) -> list[Stage]:
    """The stages that the target is made of, itself included, in the Dockerfile's order; ``bases`` are expanded."""
    needed: set[int] = set()
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.index in needed:
            continue
        needed.add(stage.index)
        base = base_stage(stages, stage, bases[stage.index])
        found = [base] + [
            source_stage(stages, stage, instruction, name)
            for instruction in stage.instructions
            for name in sources_named(instruction)
        ]
        waiting += [other for other in found if other is not None]
    return [stages[index] for index in sorted(needed)]

"""What the builder asks of whoever can run a process: one RUN as a value, and the port that carries it out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kitepy.engine.model.launch import OverlayRoot

StepOutput = Callable[[int, bytes], Awaitable[None]]
"""Receives output as it comes: the stream's number (1 stdout, 2 stderr) and some bytes, not necessarily whole lines."""


@dataclass(frozen=True)
class StepLimits:
    """What a step may use; zero and empty mean no limit of its own. Bytes, and microseconds of a CPU."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    ulimits: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class StepMount:
    """Something mounted during one step only. ``source`` is a directory or file of the host; None makes it a tmpfs."""

    target: str
    """Absolute, to be resolved beneath the step's root; made when missing."""
    source: Path | None = None
    read_only: bool = False
    size_bytes: int = 0
    """Of a tmpfs; 0 is the kernel's default."""


@dataclass(frozen=True)
class RunStep:
    """One command in an image that is being made."""

    id: str
    """Like a container's: 64 hexadecimal digits."""
    root: OverlayRoot
    """Writable: what the command leaves in ``upper`` becomes the layer. Nobody else has it mounted."""
    argv: tuple[str, ...]
    env: tuple[str, ...]
    """``NAME=value``, PATH included; HOME is the runner's to add."""
    user: str
    """As in an image's configuration: empty, a name or an id, with or without a group."""
    working_dir: str
    """Absolute; made, owned by the user, when missing."""
    network: str = ""
    """Empty and ``default`` are the engine's default network; else as in a container's NetworkMode."""
    extra_hosts: tuple[str, ...] = ()
    shm_size_bytes: int = 0
    cgroup_parent: str = ""
    security_opt: tuple[str, ...] = ()
    limits: StepLimits = field(default_factory=StepLimits)
    mounts: tuple[StepMount, ...] = ()


class StepRunner(Protocol):
    """Runs commands with the isolation of a container."""

    async def run(self, step: RunStep, output: StepOutput) -> int:
        """Run to the end and return the exit code; all output has been delivered by then, and nothing is mounted any more.

        Cancelling kills the process and all it started, and returns only when they are gone. Raises ``StartFailed`` when
        the command can't be executed, and ``SystemFailure``.
        """

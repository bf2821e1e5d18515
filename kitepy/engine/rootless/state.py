"""What the helper processes leave on disk for the next engine: ``helpers.json`` in the exec root's ``rootless`` directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.kernel.processes import start_ticks

_NAME = "helpers.json"


@dataclass(frozen=True)
class ProcessMark:
    """A process, told from a later one with the same number by the moment it started."""

    pid: int
    started: int
    """Clock ticks since the machine started, field 22 of proc_pid_stat(5)."""

    @classmethod
    def of(cls, pid: int) -> ProcessMark | None:
        """The process with this number, or None when there is none."""
        started = start_ticks(pid)
        return None if started is None else cls(pid, started)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return ProcessMark.of(self.pid) == self


@dataclass(frozen=True)
class HelperState:
    """Who holds the namespaces, and who connects them."""

    inside: ProcessMark
    uplink: ProcessMark | None
    uplink_kind: str


def write_state(directory: Path, state: HelperState) -> None:
    """Appears complete or not at all."""
    uplink = state.uplink
    document = {
        "inside": [state.inside.pid, state.inside.started],
        "uplink": None if uplink is None else [uplink.pid, uplink.started],
        "uplink_kind": state.uplink_kind,
    }
    temporary = directory / f".{_NAME}"
    temporary.write_text(json.dumps(document))
    os.replace(temporary, directory / _NAME)


def read_state(directory: Path) -> HelperState | None:
    """What a former engine's helpers wrote; None when there is nothing, or nothing of use."""
    try:
        document = json.loads((directory / _NAME).read_text())
        uplink = document["uplink"]
        mark = None if uplink is None else ProcessMark(int(uplink[0]), int(uplink[1]))
        return HelperState(ProcessMark(*(int(part) for part in document["inside"])), mark, str(document["uplink_kind"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # not ours, or of another version: new namespaces are made

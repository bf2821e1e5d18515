"""Asks the engine's program what it finds on this machine, and gives its findings as values."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from kitepy.client.errors import EngineStartError

_TIMEOUT_S = 60.0


class Severity(Enum):
    """How much a finding matters, worst first."""

    BLOCKS = "blocks"
    DEGRADES = "degrades"
    HINT = "hint"
    FINE = "fine"


@dataclass(frozen=True)
class Fix:
    """A way to put it right: an exact command of one or more lines, and what it costs."""

    command: str
    about: str = ""


@dataclass(frozen=True)
class Finding:
    """What one check found, in sentences for the user."""

    id: str
    severity: Severity
    summary: str
    meaning: str = ""
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All that was found for an engine of this user."""

    mode: str
    """``rootless`` or ``root``."""
    findings: tuple[Finding, ...]

    @property
    def can_run(self) -> bool:
        """Whether containers can run."""
        return not self.blocking

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What keeps them from running."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.BLOCKS)


def diagnose(data_root: Path, environment: Mapping[str, str], command: Sequence[str] = ()) -> Diagnosis:
    """Look at this machine now, for an engine of this process's user; blocks for some tenths of a second.

    ``command`` stands for the engine's program. Raises EngineStartError when it gives no answer.
    """
    words = [*(command or (sys.executable, "-m", "kitepy.engine")), "--diagnose=json", "--data-root", str(data_root)]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=dict(environment),
            check=False,
        )
        return from_document(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineStartError(f"This machine can't be checked: {error}.", "Repair the installation: make install") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EngineStartError(
            "This machine can't be checked: the engine's program gave no findings.",
            "Repair the installation: make install",
            done.stderr[-4000:],
        ) from error


def from_document(document: dict[str, Any]) -> Diagnosis:
    """From the engine's JSON. Raises ValueError, KeyError or TypeError."""
    findings = tuple(
        Finding(
            str(entry["id"]),
            Severity(entry["severity"]),
            str(entry["summary"]),
            str(entry["meaning"]),
            tuple(Fix(str(fix["command"]), str(fix["about"])) for fix in entry["fixes"]),
        )
        for entry in document["findings"]
    )
    return Diagnosis(str(document["mode"]), findings)

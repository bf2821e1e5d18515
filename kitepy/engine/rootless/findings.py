"""What a check of this machine says, as values that can be printed and sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much it matters, worst first."""

    BLOCKS = "blocks"
    """No container can run."""
    DEGRADES = "degrades"
    """Containers run, but something that most people expect doesn't work."""
    HINT = "hint"
    """All is as usual on this kind of machine; whoever needs more can have it."""
    FINE = "fine"


@dataclass(frozen=True)
class Fix:
    """One way to put it right."""

    command: str
    """Exact, for a shell; may have several lines."""
    about: str = ""
    """What it costs or when to prefer it."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    id: str
    severity: Severity
    summary: str
    """One sentence in the user's terms."""
    meaning: str = ""
    """What follows for containers; empty when it is fine."""
    fixes: tuple[Fix, ...] = ()
    """The best first."""


def fine(check: str, summary: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Severity.FINE, summary)


def can_run(findings: list[Finding]) -> bool:
    """Whether containers can run here."""
    return all(finding.severity is not Severity.BLOCKS for finding in findings)

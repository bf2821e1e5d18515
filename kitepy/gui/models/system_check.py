"""What was found about this machine, and the words of the page that shows it. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    BLOCKS = "blocks"
    DEGRADES = "degrades"
    HINT = "hint"
    FINE = "fine"


@dataclass(frozen=True)
class Fix:
    command: str
    about: str = ""


@dataclass(frozen=True)
class Finding:
    id: str
    severity: Severity
    summary: str
    meaning: str = ""
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class SystemCheck:
    findings: tuple[Finding, ...] = ()
    is_root: bool = False
    """The user is root: there are no other rights to choose."""
    engine_as_root: bool = False
    """The user chose an engine with administrator rights."""

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)

    @property
    def blocked(self) -> bool:
        return bool(self.of(Severity.BLOCKS))

    @property
    def worth_a_page(self) -> bool:
        """Whether a person at the first start should see it although nobody asked."""
        return self.blocked or bool(self.of(Severity.DEGRADES))


def title(check: SystemCheck) -> str:
    if check.blocked:
        return "This machine needs a little preparation"
    if check.of(Severity.DEGRADES):
        return "Containers can run, with a few limits"
    return "This machine is ready for containers"


def lead(check: SystemCheck) -> str:
    """What to do about it, in one or two sentences."""
    count = len(check.of(Severity.BLOCKS))
    if count:
        things = "one thing stands" if count == 1 else f"{count} things stand"
        return (
            f"Kitepy runs containers with your own rights, and {things} in the way. Copy the command into a terminal, "
            "run it once, then check again."
        )
    if check.of(Severity.DEGRADES):
        return "You can go on now. Whatever you need of this is put right by the command below it, today or later."
    return "Nothing has to be done."


def all_commands(check: SystemCheck) -> str:
    """What unblocks this machine in one paste: the best way of each finding."""
    return "\n\n".join(finding.fixes[0].command for finding in check.of(Severity.BLOCKS) if finding.fixes)


PRICE_OF_ROOT = (
    "The engine then runs as root, and an administrator's password may be asked for at each start. Whoever can use it, and every "
    "container that breaks out, could take over the whole machine. Images and containers of this engine are kept apart from "
    "those without administrator rights. You can go back at any time in the system check."
)

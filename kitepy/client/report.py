"""``kitepy doctor``: the findings of a machine and the state of its engine as text for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Sequence

from kitepy import __version__
from kitepy.client.diagnosis import Diagnosis, Finding, Severity
from kitepy.client.paths import EnginePaths
from kitepy.client.preferences import EngineMode
from kitepy.client.probe import Presence, Probe

_MARKS = {Severity.BLOCKS: "✗", Severity.DEGRADES: "!", Severity.HINT: "·", Severity.FINE: "✓"}
_RIGHTS = {EngineMode.ROOTLESS: "with your own rights", EngineMode.ROOT: "with administrator rights"}


def report(diagnosis: Diagnosis, engine: Probe, paths: EnginePaths) -> str:
    """For a terminal."""
    degraded = [finding for finding in diagnosis.findings if finding.severity is Severity.DEGRADES]
    if not diagnosis.can_run:
        count = len(diagnosis.blocking)
        verdict = f"Containers can't run here yet: {count} {'thing stands' if count == 1 else 'things stand'} in the way (✗)."
    elif degraded:
        count = len(degraded)
        what = "1 thing works" if count == 1 else f"{count} things work"
        verdict = f"Containers can run here. {what} less well than possible (!)."
    else:
        verdict = "Containers can run here."
    heading = f"Kitepy {__version__}, an engine {_rights(diagnosis)}"
    return "\n".join([heading, "", *lines(diagnosis.findings), "", _engine_line(engine, paths), "", verdict])


def _rights(diagnosis: Diagnosis) -> str:
    return "of root" if diagnosis.mode == "root" else "without administrator rights"


def lines(findings: Sequence[Finding], *, blocking_only: bool = False) -> list[str]:
    """Each finding with its mark, what it means and the commands."""
    text: list[str] = []
    for finding in findings:
        if blocking_only and finding.severity is not Severity.BLOCKS:
            continue
        text.append(f" {_MARKS[finding.severity]} {finding.summary}")
        if finding.meaning:
            text.append(f"   {finding.meaning}")
        for fix in finding.fixes:
            text.append("")
            if fix.about:
                text.append(f"   {fix.about}")
            text += [f"     {line}" for line in fix.command.splitlines()]
        if finding.fixes:
            text.append("")
    return text


def _engine_line(engine: Probe, paths: EnginePaths) -> str:
    if engine.presence is Presence.HEALTHY:
        whose = f"version {engine.version}" if engine.version else "another program's"
        return f"An engine runs {_RIGHTS[paths.mode]}: {whose}, process {engine.pid}, unix://{paths.socket}"
    if engine.presence in (Presence.ABSENT, Presence.STALE):
        return f"No engine runs. One would be started {_RIGHTS[paths.mode]} on unix://{paths.socket}"
    return f"unix://{paths.socket}: {engine.presence.value} {engine.detail}".rstrip()


def document(diagnosis: Diagnosis, engine: Probe, paths: EnginePaths) -> dict[str, object]:
    """For programs."""
    return {
        "version": __version__,
        "can_run": diagnosis.can_run,
        "mode": diagnosis.mode,
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity.value,
                "summary": finding.summary,
                "meaning": finding.meaning,
                "fixes": [{"command": fix.command, "about": fix.about} for fix in finding.fixes],
            }
            for finding in diagnosis.findings
        ],
        "engine": {
            "running": engine.presence is Presence.HEALTHY,
            "state": engine.presence.value,
            "version": engine.version,
            "pid": engine.pid,
            "mode": paths.mode.value,
            "socket": str(paths.socket),
            "data_root": str(paths.data_root),
            "log": str(paths.log),
        },
    }

"""``kitepy-engine --diagnose``: looks at this machine before anything is started, and prints what it found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from kitepy import __version__
from kitepy.engine.rootless.checks import check
from kitepy.engine.rootless.findings import Finding, Severity, can_run
from kitepy.engine.rootless.probes import read_facts
from kitepy.engine.rootless.root_checks import check_for_root

_MARKS = {Severity.BLOCKS: "✗", Severity.DEGRADES: "!", Severity.HINT: "·", Severity.FINE: "✓"}


def diagnose(data_root: Path, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Print the findings for an engine of this process's user; 0 when containers can run, else 1."""
    facts = read_facts(data_root, environ)
    rootless = os.getuid() != 0
    findings = check(facts) if rootless else check_for_root(facts)
    runs = can_run(findings)
    if as_json:
        document = {
            "version": __version__,
            "mode": "rootless" if rootless else "root",
            "user": facts.user,
            "can_run": runs,
            "findings": [_document(finding) for finding in findings],
        }
        print(json.dumps(document, indent=2))
    else:
        for finding in findings:
            print("\n".join(_lines(finding)))
    return 0 if runs else 1


def _document(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "summary": finding.summary,
        "meaning": finding.meaning,
        "fixes": [{"command": fix.command, "about": fix.about} for fix in finding.fixes],
    }


def _lines(finding: Finding) -> list[str]:
    lines = [f"{_MARKS[finding.severity]} {finding.summary}"]
    if finding.meaning:
        lines.append(f"  {finding.meaning}")
    for fix in finding.fixes:
        if fix.about:
            lines.append(f"  {fix.about}")
        lines += [f"    {line}" for line in fix.command.splitlines()]
    return lines

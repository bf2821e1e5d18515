"""Recorded sessions of a command line: what was typed, what came out, and a replay that compares.

A session is a text file::

    # Remarks are kept.
    $ docker run --rm busybox sh -c 'echo out; echo err >&2; exit 7'
    out
    ! err
    [7]

A line after ``$`` goes to bash; then follow its output, its errors after ``!``, and its exit code unless that is 0. What is
different each time (ids, times, addresses) is written as ``<ID>`` and the like. Lines after ``~`` are what Kitepy gives instead
of all that: a difference that is known, meant or not.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

TIMEOUT_S = 60.0

_CHANGING = [
    (r"\b[0-9a-f]{64}\b", "<ID>"),
    (r"\b[0-9a-f]{12}\b", "<ID>"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<TIME>"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} [A-Z]+\b", "<TIME>"),
    (r"\b(Less than a second|About a minute|\d+ (seconds?|minutes?))( ago)?\b", "<AGE>"),
    (r"\b(?!127\.|0\.0\.0\.0)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "<ADDRESS>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<MAC>"),
    (r"(?<=:)(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[45]\d{4}|60\d{3})\b", "<PORT>"),
    # Docker's old command line says this in front of its own error, behind it, or not at all.
    (r'time=\S+ level=error msg="error waiting for container: context canceled"\n', ""),
    # Columns are as wide as their content.
    (r"(?<=\S) {2,}", "  "),
    (r" +$", ""),
]
_PATTERNS = [(re.compile(pattern, re.MULTILINE), name) for pattern, name in _CHANGING]


@dataclass(frozen=True)
class Step:
    """A command and what came of it, or a remark."""

    text: str
    result: str = ""
    is_command: bool = False
    otherwise: str | None = None
    """Kitepy's own result, where it is another."""

    def __str__(self) -> str:
        if not self.is_command:
            return f"{self.text}\n"
        lines = [] if self.otherwise is None else self.otherwise.splitlines() or [""]
        ours = "".join(f"~ {line}".rstrip() + "\n" for line in lines)
        return f"$ {self.text}\n{self.result}{ours}"


def parse(text: str) -> list[Step]:
    """A session's steps; a command that ends with a backslash goes on in the next line."""
    steps: list[Step] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command += "\n" + next(lines)
            steps.append(Step(command, is_command=True))
        elif steps and steps[-1].is_command and line.startswith("~"):
            ours = (steps[-1].otherwise or "") + (f"{line[2:]}\n" if line[2:] else "")
            steps[-1] = replace(steps[-1], otherwise=ours)
        elif steps and steps[-1].is_command and line:
            steps[-1] = replace(steps[-1], result=f"{steps[-1].result}{line}\n")
        else:
            steps.append(Step(line))
    return steps


def normal(text: str) -> str:
    """Text without what is different each time."""
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text


class Shell:
    """Runs the commands of a session in one directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str], replaced: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = {**os.environ, **environment}
        self._replaced = {str(directory): "<HERE>", **(replaced or {})}

    def result(self, command: str) -> str:
        """What a session says of a command: output, errors and exit code."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return "".join(self._lines(done))

    def _lines(self, done: subprocess.CompletedProcess[bytes]) -> Iterator[str]:
        for prefix, data in (("", done.stdout), ("! ", done.stderr)):
            text = data.decode(errors="replace").replace("\r", "\\r")
            for found, name in self._replaced.items():
                text = text.replace(found, name)
            for line in normal(text).splitlines():
                # An empty line would end the result, and these signs have a meaning at the beginning of one.
                yield (
                    f"{prefix}{line or '<EMPTY>'}\n" if prefix or not line.startswith(("$ ", "! ", "# ", "~ ")) else f" {line}\n"
                )
        if done.returncode:
            yield f"[{done.returncode}]\n"

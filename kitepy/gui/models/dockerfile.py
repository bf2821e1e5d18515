"""What a Dockerfile says about itself before it is built: instructions with their lines, base images, exposed ports.

Only as much of the language as the review sheet and the error display need; the engine's builder has the last word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")


@dataclass(frozen=True)
class Instruction:
    """`line` counts from 1 and is where the instruction begins; `last_line` is where it ends."""

    keyword: str
    arguments: str
    line: int
    last_line: int

    @property
    def text(self) -> str:
        return f"{self.keyword} {self.arguments}".strip()


def parse_instructions(text: str) -> tuple[Instruction, ...]:
    """The instructions in order: comments dropped, continued lines joined, here-documents kept with their instruction."""
    escape = _escape_character(text)
    lines = text.splitlines()
    instructions: list[Instruction] = []
    position = 0
    while position < len(lines):
        stripped = lines[position].strip()
        if not stripped or stripped.startswith("#"):
            position += 1
            continue
        first = position
        parts: list[str] = []
        while position < len(lines):
            piece = lines[position].strip()
            position += 1
            if parts and (not piece or piece.startswith("#")):
                continue
            if piece.endswith(escape):
                parts.append(piece[:-1].rstrip())
                continue
            parts.append(piece)
            break
        joined = " ".join(part for part in parts if part)
        keyword, _, arguments = joined.partition(" ")
        if keyword.upper() in ("RUN", "COPY", "ADD"):
            for match in _HEREDOC.finditer(arguments):
                while position < len(lines):
                    position += 1
                    if lines[position - 1].lstrip("\t") == match.group(2):
                        break
        instructions.append(Instruction(keyword.upper(), arguments.strip(), first + 1, position))
    return tuple(instructions)


def _escape_character(text: str) -> str:
    for line in text.splitlines():
        directive = re.match(r"\s*#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*$", line)
        if not directive:
            break
        if directive.group(1).lower() == "escape":
            return directive.group(2)
    return "\\"


def base_images(instructions: tuple[Instruction, ...]) -> tuple[str, ...]:
    """The images named by FROM lines, without stages of the same file and flags."""
    stages: set[str] = set()
    images: list[str] = []
    for instruction in instructions:
        if instruction.keyword != "FROM":
            continue
        words = [word for word in instruction.arguments.split() if not word.startswith("--")]
        if not words:
            continue
        if words[0].lower() not in stages and words[0] not in images:
            images.append(words[0])
        if len(words) >= 3 and words[1].lower() == "as":
            stages.add(words[2].lower())
    return tuple(images)


def exposed_ports(instructions: tuple[Instruction, ...]) -> tuple[str, ...]:
    """Ports named by EXPOSE in the last stage, as `80/tcp`; variables are left as they are written."""
    ports: list[str] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            ports.clear()
        elif instruction.keyword == "EXPOSE":
            for word in instruction.arguments.split():
                port = word if "/" in word else f"{word}/tcp"
                if port not in ports:
                    ports.append(port)
    return tuple(ports)


_PARSE_ERROR_LINE = re.compile(r"(?:dockerfile|Dockerfile)[^\n]*?\bline[s]? (\d+)", re.IGNORECASE)


def failed_line(instructions: tuple[Instruction, ...], message: str, step: int | None) -> int | None:
    """The line an error belongs to: named by the message itself, else that of the step that was running.

    The classic builder numbers its steps by instruction, global ARGs included, so step n is the n-th instruction.
    """
    named = _PARSE_ERROR_LINE.search(message)
    if named:
        return int(named.group(1))
    if step is not None and 1 <= step <= len(instructions):
        return instructions[step - 1].line
    return None


def looks_like_dockerfile(name: str) -> bool:
    """By name alone: `Dockerfile`, `Dockerfile.dev`, `web.dockerfile`, `Containerfile`."""
    lower = name.lower()
    return (
        lower in ("dockerfile", "containerfile")
        or lower.startswith(("dockerfile.", "containerfile."))
        or lower.endswith(".dockerfile")
    )

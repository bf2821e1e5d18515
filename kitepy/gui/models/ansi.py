"""ANSI escape sequences of a log line turned into styled spans. One line at a time: a style ends with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# CSI, OSC (ended by BEL or ST), and two-character escapes (ECMA-48).
_ESCAPE = re.compile(r"\x1b\[([0-9;:?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True)
class Style:
    """`foreground`/`background`: None (default), 0-255 (palette index) or a 0xRRGGBB above 255 shifted by 256."""

    foreground: int | None = None
    background: int | None = None
    bold: bool = False
    faint: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False


PLAIN = Style()
TRUE_COLOUR = 256
"""Colours at or above this are `TRUE_COLOUR + 0xRRGGBB`."""


@dataclass(frozen=True)
class Span:
    text: str
    style: Style


def overwrite(line: str) -> str:
    """What a terminal would show of a line with carriage returns in it: the last text written over the others."""
    line = line.rstrip("\r")
    return line.rsplit("\r", 1)[1] if "\r" in line else line


def plain(line: str) -> str:
    """The line without escapes and control characters."""
    if "\x1b" in line:
        line = _ESCAPE.sub("", line)
    return _CONTROLS.sub("", line)


def spans(line: str) -> tuple[Span, ...]:
    """The line cut where its style changes; the texts joined are `plain(line)`."""
    if "\x1b" not in line:
        text = _CONTROLS.sub("", line)
        return (Span(text, PLAIN),) if text else ()
    result: list[Span] = []
    style = PLAIN
    position = 0
    for match in _ESCAPE.finditer(line):
        text = _CONTROLS.sub("", line[position : match.start()])
        if text:
            result.append(Span(text, style))
        position = match.end()
        if match.group(2) == "m":
            style = _apply(style, match.group(1))
    text = _CONTROLS.sub("", line[position:])
    if text:
        result.append(Span(text, style))
    return tuple(result)


def _apply(style: Style, parameters: str) -> Style:
    codes = [int(part) if part.isdigit() else 0 for part in re.split("[;:]", parameters)] if parameters else [0]
    position = 0
    while position < len(codes):
        code = codes[position]
        position += 1
        if code in (38, 48):
            colour, used = _extended(codes[position:])
            position += used
            style = replace(style, foreground=colour) if code == 38 else replace(style, background=colour)
        else:
            style = _simple(style, code)
    return style


def _extended(codes: list[int]) -> tuple[int | None, int]:
    if len(codes) >= 2 and codes[0] == 5:
        return (codes[1] if codes[1] < 256 else None), 2
    if len(codes) >= 4 and codes[0] == 2:
        red, green, blue = (min(255, value) for value in codes[1:4])
        return TRUE_COLOUR + (red << 16 | green << 8 | blue), 4
    return None, len(codes)


def _simple(style: Style, code: int) -> Style:
    if code == 0:
        return PLAIN
    if 30 <= code <= 37 or 90 <= code <= 97:
        return replace(style, foreground=code - 30 if code < 90 else code - 82)
    if 40 <= code <= 47 or 100 <= code <= 107:
        return replace(style, background=code - 40 if code < 100 else code - 92)
    match code:
        case 1:
            return replace(style, bold=True)
        case 2:
            return replace(style, faint=True)
        case 3:
            return replace(style, italic=True)
        case 4:
            return replace(style, underline=True)
        case 7:
            return replace(style, inverse=True)
        case 22:
            return replace(style, bold=False, faint=False)
        case 23:
            return replace(style, italic=False)
        case 24:
            return replace(style, underline=False)
        case 27:
            return replace(style, inverse=False)
        case 39:
            return replace(style, foreground=None)
        case 49:
            return replace(style, background=None)
        case _:
            return style

"""Turns the engine's build messages (classic builder, ``POST /build``) into values that a view can follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_SUCCESS = re.compile(r"Successfully built ([0-9a-f]{6,64})")
_EXIT_CODE = re.compile(r"returned a non-zero code: (\d+)")


@dataclass(frozen=True)
class BuildUpload:
    """The context is on its way."""

    bytes_sent: int
    bytes_total: int


@dataclass(frozen=True)
class BuildStep:
    """An instruction begins; ``index`` counts from 1."""

    index: int
    total: int
    text: str


@dataclass(frozen=True)
class BuildOutput:
    """Text of the running step, as it comes: any number of lines, or a part of one."""

    text: str


@dataclass(frozen=True)
class BuildFailed:
    """The build ended without an image; ``code`` is the exit code of the step, where one failed."""

    message: str
    code: int | None


@dataclass(frozen=True)
class BuildDone:
    """The image is there."""

    image_id: str


BuildEvent: TypeAlias = BuildUpload | BuildStep | BuildOutput | BuildFailed | BuildDone


class BuildParser:
    """Follows one build's messages; ``feed`` each of them, then ask ``finish`` once."""

    def __init__(self) -> None:
        self._image_id = ""
        self._has_failed = False
        self._step_needs_line_end = False

    def feed(self, message: dict[str, Any]) -> list[BuildEvent]:
        """The events of one message; unknown kinds of message give none."""
        if "errorDetail" in message or "error" in message:
            return self._failure(message)
        if isinstance(aux := message.get("aux"), dict) and aux.get("ID"):
            self._image_id = str(aux["ID"])
            return []
        if isinstance(text := message.get("stream"), str):
            return self._text(text)
        if isinstance(status := message.get("status"), str):
            words = [str(message[key]) for key in ("id", "progress") if message.get(key)]
            return [BuildOutput(" ".join([status, *words]) + "\n")]
        return []

    def finish(self) -> list[BuildEvent]:
        """What the end of the stream means."""
        if self._has_failed:
            return []
        if self._image_id:
            return [BuildDone(self._image_id)]
        return [BuildFailed("the engine ended the connection before the build was done", None)]

    def _text(self, text: str) -> list[BuildEvent]:
        if self._step_needs_line_end:
            # The builder sends the line end of "Step 1/3 : …" as a message of its own.
            self._step_needs_line_end = False
            text = text.removeprefix("\n")
        if step := _STEP.fullmatch(text):
            self._step_needs_line_end = not text.endswith("\n")
            return [BuildStep(int(step[1]), int(step[2]), step[3].rstrip("\n"))]
        if not self._image_id and (success := _SUCCESS.match(text)):
            self._image_id = success[1]
        return [BuildOutput(text)] if text else []

    def _failure(self, message: dict[str, Any]) -> list[BuildEvent]:
        self._has_failed = True
        detail = message.get("errorDetail")
        detail = detail if isinstance(detail, dict) else {}
        text = str(detail.get("message") or message.get("error") or "the build failed")
        code = detail.get("code")
        if code is None and (told := _EXIT_CODE.search(text)):
            code = told[1]
        return [BuildFailed(text, int(code) if code is not None else None)]

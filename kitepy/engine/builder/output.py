"""A build's messages in the words of Docker's classic builder, which clients print and parse.

Stages that run side by side are told apart by whole lines: a step's output is then held back until its line ends.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from kitepy.engine.builder.steps import StepOutput
from kitepy.engine.model.ids import short_id

Emit = Callable[[dict[str, Any]], Awaitable[None]]

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"
_LONGEST_LINE = 1 << 16
_MOST_HELD = 5000


class BuildOutput:
    """Numbers the steps of one build and writes its messages."""

    def __init__(self, emit: Emit, total: int, *, quiet: bool = False) -> None:
        self._emit = emit
        self._total = total
        self._quiet = quiet
        self._held: deque[dict[str, Any]] = deque(maxlen=_MOST_HELD)
        self._number = 0
        self.side_by_side = False
        """Whether several stages write now."""

    async def step(self, text: str) -> int:
        """Announce a step; gives its number."""
        self._number += 1
        number = self._number
        await self.stream(f"Step {number}/{self._total} : {text}")
        await self.stream("\n")
        return number

    async def stream(self, text: str) -> None:
        """Some text for the user."""
        await self._message({"stream": text})

    async def fetching(self, message: dict[str, Any]) -> None:
        """How an image is fetched that the current step needs: a message of a pull."""
        await self._message(message)

    async def note(self, text: str) -> None:
        """A line that belongs to the current step."""
        await self.stream(f" ---> {text}\n")

    async def outcome(self, image_id: str, number: int, *, seconds: float, cached: bool) -> None:
        """A step is done. Clients other than Kitepy's app see the id only."""
        details = {"step": number, "seconds": round(seconds, 4), "cached": cached}
        await self._message({"stream": f" ---> {short_id(image_id)}\n", "kitepy": details})

    async def done(self, image_id: str, tags: list[str]) -> None:
        """The image is there."""
        await self._emit({"aux": {"ID": image_id}})
        if self._quiet:
            await self._emit({"stream": f"{image_id}\n"})
            return
        await self.stream(f"Successfully built {short_id(image_id)}\n")
        for tag in tags:
            await self.stream(f"Successfully tagged {tag}\n")

    async def failed(self, message: str, code: int | None) -> None:
        """The build ends without an image."""
        held, self._quiet = list(self._held), False
        self._held.clear()
        for earlier in held:
            await self._emit(earlier)
        detail: dict[str, Any] = {"message": message}
        if code is not None:
            detail = {"code": code, "message": message}
        await self._emit({"errorDetail": detail, "error": message})

    async def _message(self, message: dict[str, Any]) -> None:
        if self._quiet:
            self._held.append(message)  # told only if the build fails
        else:
            await self._emit(message)


class CommandOutput:
    """Turns the bytes of a command into messages; ``write`` is a ``StepOutput``."""

    def __init__(self, output: BuildOutput) -> None:
        self._output = output
        self._decoders = {number: codecs.getincrementaldecoder("utf-8")("replace") for number in (1, 2)}
        self._lines = {1: "", 2: ""}
        self.write: StepOutput = self._write

    async def _write(self, number: int, data: bytes) -> None:
        text = self._lines[number] + self._decoders[number].decode(data)
        self._lines[number] = ""
        if self._output.side_by_side and len(text) < _LONGEST_LINE:
            whole, newline, rest = text.rpartition("\n")
            text, self._lines[number] = whole + newline, rest
        await self._send(number, text)

    async def finish(self) -> None:
        """Send what has no line end."""
        for number in (1, 2):
            text = self._lines[number] + self._decoders[number].decode(b"", True)
            self._lines[number] = ""
            await self._send(number, text)

    async def _send(self, number: int, text: str) -> None:
        if text:
            await self._output.stream(f"{_RED}{text}{_PLAIN}" if number == 2 else text)

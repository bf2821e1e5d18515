"""The key sequence that leaves a terminal session without ending it (ctrl-p,ctrl-q unless asked otherwise).

Pure: the scanner is fed what the client types and says what of it is for the process.
"""

from __future__ import annotations

from kitepy.engine.model.errors import InvalidParameter

DEFAULT_KEYS = b"\x10\x11"

_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, **{chr(96 + number): number for number in range(1, 27)}}


def parse_detach_keys(text: str | None) -> bytes:
    """The bytes of a sequence like ``ctrl-p,ctrl-q`` or ``a,ctrl-[``; empty or None is the default."""
    if not text:
        return DEFAULT_KEYS
    return bytes(_key(word, text) for word in text.split(","))


def _key(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    control, dash, key = word.partition("-")
    if control.lower() == "ctrl" and dash and key.lower() in _CONTROL:
        return _CONTROL[key.lower()]
    raise InvalidParameter(f"Unable to parse detach keys '{text[:80]}': unknown key '{word[:20]}'")


class DetachScanner:
    """Finds the sequence however it is cut into pieces.

    A beginning of the sequence is held back until the next key shows whether it goes on, as Docker does.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to hand to the process, and whether the sequence is complete (what follows it is dropped)."""
        if self._matched == 0 and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            passed += self._step(byte)
            if self._matched == len(self._keys):
                self._matched = 0
                return bytes(passed), True
        return bytes(passed), False

    def _step(self, byte: int) -> bytes:
        """Advance by one key; gives the bytes that turned out not to belong to the sequence."""
        held = self._keys[: self._matched] + bytes([byte])
        for start in range(len(held) + 1):
            if self._keys.startswith(held[start:]):
                self._matched = len(held) - start
                return held[:start]
        raise AssertionError("the empty suffix always matches")

    def flush(self) -> bytes:
        """What is held back, when no more keys will come."""
        held, self._matched = self._keys[: self._matched], 0
        return held

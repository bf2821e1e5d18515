"""Finds the keys that leave a terminal session in what the client types.

Pure: the scanner is fed what the client types and says what of it is for the process.
"""

from __future__ import annotations


class DetachScanner:
    """Finds the sequence however it is cut into pieces.

    A beginning of the sequence is held back until the next key shows whether it goes on. When it doesn't, all that was held
    back is for the process, the next key included: as in Docker, that key can't begin the sequence anew.
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
            if byte != self._keys[self._matched]:
                passed += self.flush()
                passed.append(byte)
                continue
            self._matched += 1
            if self._matched == len(self._keys):
                self._matched = 0
                return bytes(passed), True
        return bytes(passed), False

    def flush(self) -> bytes:
        """What is held back, when no more keys will come."""
        held, self._matched = self._keys[: self._matched], 0
        return held

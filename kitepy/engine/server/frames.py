"""The multiplexed stream of attach, exec and logs: eight bytes of header (stream, 0, 0, 0, length big-endian), then data.

Pure: bytes in, bytes out. The decoder serves tests and whoever reads such a stream back.
"""

from __future__ import annotations

import struct

STDIN = 0
STDOUT = 1
STDERR = 2
SYSTEM_ERROR = 3
"""An error of the engine in the middle of a stream; clients print it to stderr and stop."""

_HEADER = struct.Struct(">BxxxI")
HEADER_SIZE = _HEADER.size


def encode_frame(stream: int, data: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(stream, len(data)) + data


class FrameDecoder:
    """Takes bytes in any cut and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete now; raises ValueError where no header can begin."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= HEADER_SIZE:
            stream, length = _HEADER.unpack_from(self._buffer)
            if stream > SYSTEM_ERROR or any(self._buffer[1:4]):
                raise ValueError(f"no frame header: {bytes(self._buffer[:HEADER_SIZE])!r}")
            end = HEADER_SIZE + length
            if len(self._buffer) < end:
                break
            frames.append((stream, bytes(self._buffer[HEADER_SIZE:end])))
            del self._buffer[:end]
        return frames

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

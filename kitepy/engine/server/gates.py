"""How many connections a listener serves at once, and how many it lets knock: bounds that a client never meets in practice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_REPORT_INTERVAL_S = 60.0


@dataclass(frozen=True)
class Limits:
    """Bounds of one listener."""

    connections: int
    """Served at once; one more is answered with 503 and closed."""
    handshakes: int = 128
    """TLS handshakes under way; one more drops the oldest, so that a flood can't lock out who is quick."""
    handshake_timeout_s: float = 10.0
    head_timeout_s: float = 60.0
    """From a request's first byte to the end of its head."""
    body_timeout_s: float = 60.0
    """For the whole of a body that is read before anything is done: JSON."""
    pause_timeout_s: float | None = None
    """Between two pieces of a body that is used as it comes (archives, build contexts), however long all of it takes."""
    idle_timeout_s: float = 3630.0
    """Between requests. Clients keep connections for their next one and cope with their end."""


def unix_limits(open_files: int) -> Limits:
    """For a socket whose users have the engine's rights anyway; a share of the process's descriptors (``RLIMIT_NOFILE``)."""
    return Limits(connections=max(64, min(4096, open_files // 4)))


def tcp_limits(open_files: int) -> Limits:
    """For a port that machines reach which may be hostile or simply vanish."""
    return Limits(connections=max(64, min(1024, open_files // 8)), idle_timeout_s=300.0, pause_timeout_s=600.0)


class ConnectionGate:
    """Counts the connections of one listener."""

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float] | None = None) -> None:
        self.limits = limits
        self._name = name
        self._clock = clock or asyncio.get_running_loop().time
        self._open: set[object] = set()
        self._knocking: dict[object, Callable[[], None]] = {}
        self._reported_at = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    @property
    def knocking(self) -> int:
        """How many handshakes are under way."""
        return len(self._knocking)

    def enter(self, connection: object) -> bool:
        """Whether one more connection may be served."""
        if len(self._open) >= self.limits.connections:
            self._report("%s: %d connections are open, no more are served", self.limits.connections)
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: object) -> None:
        """A connection ended; harmless for one that was not let in."""
        self._open.discard(connection)

    def knock(self, connection: object, drop: Callable[[], None]) -> None:
        """A handshake begins; ``drop`` ends it when others take its place."""
        if len(self._knocking) >= self.limits.handshakes:
            self._report("%s: %d TLS handshakes are under way, the oldest are dropped", self.limits.handshakes)
            self._knocking.pop(next(iter(self._knocking)))()
        self._knocking[connection] = drop

    def answered(self, connection: object) -> None:
        """A handshake is over, well or not."""
        self._knocking.pop(connection, None)

    def _report(self, message: str, number: int) -> None:
        """Say so, but not once for each connection of a flood."""
        if self._clock() - self._reported_at >= _REPORT_INTERVAL_S:
            self._reported_at = self._clock()
            logger.warning(message, self._name, number)

"""A container's health as a value: what one probe's result makes of it; pure.

Source: Engine API v1.51 Health and HealthcheckResult; the rules are those of Docker's HEALTHCHECK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

LOG_LENGTH = 5
OUTPUT_BYTES = 4096


class HealthStatus(Enum):
    """The status words of the Engine API."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class ProbeResult:
    """One run of the test; exit code -1 means that it didn't end in time. Nanoseconds since the epoch."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


@dataclass(frozen=True)
class Health:
    """What is known about a container that has a health check."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()
    """The last results, oldest first."""

    def after(self, result: ProbeResult, *, retries: int, in_start_period: bool) -> Health:
        """The health once this result is in; failures while the container may still be starting don't count."""
        log = (*self.log, result)[-LOG_LENGTH:]
        if result.exit_code == 0:
            return Health(HealthStatus.HEALTHY, 0, log)
        if self.status is HealthStatus.STARTING and in_start_period:
            return replace(self, log=log)
        streak = self.failing_streak + 1
        return Health(HealthStatus.UNHEALTHY if streak >= retries else self.status, streak, log)

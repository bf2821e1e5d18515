"""Whether and when a container that ended is started again; pure.

Source: Docker's restart policies: delays double from 100 ms to one minute, and start over after ten seconds of running.
"""

from __future__ import annotations

from dataclasses import dataclass

from kitepy.engine.model.container_config import RestartPolicy

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
STABLE_AFTER_S = 10.0


@dataclass(frozen=True)
class RestartDecision:
    """None as ``delay_s`` means that the container stays stopped."""

    delay_s: float | None
    attempts: int
    """How many restarts in a row did not last: what the next delay grows with."""


def after_exit(
    policy: RestartPolicy, *, exit_code: int, ran_s: float, attempts: int, restarts: int, stopped_by_user: bool, cancelled: bool
) -> RestartDecision:
    """Decide after process 1 ended.

    ``restarts`` counts all since the user started it. ``cancelled`` ends every policy, ``stopped_by_user`` only one kind.
    """
    if ran_s >= STABLE_AFTER_S:
        attempts = 0
    wanted = (
        policy.name == "always"
        or (policy.name == "unless-stopped" and not stopped_by_user)
        or (
            policy.name == "on-failure"
            and exit_code != 0
            and (policy.maximum_retry_count == 0 or restarts < policy.maximum_retry_count)
        )
    )
    if cancelled or not wanted:
        return RestartDecision(None, attempts)
    delay = min(FIRST_DELAY_S * 2 ** min(attempts, 20), LONGEST_DELAY_S)
    return RestartDecision(delay, attempts + 1)


def at_engine_start(policy: RestartPolicy, *, was_running: bool, exit_code: int, restarts: int, stopped_by_user: bool) -> bool:
    """Whether a container that isn't running is to be started when the engine comes up."""
    if policy.name == "always":
        return True
    if policy.name == "unless-stopped":
        return not stopped_by_user
    tries_left = policy.maximum_retry_count == 0 or restarts < policy.maximum_retry_count
    return policy.name == "on-failure" and was_running and exit_code != 0 and tries_left

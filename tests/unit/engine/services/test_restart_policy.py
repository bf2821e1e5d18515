"""Restarting: whether, and after which delay."""

from __future__ import annotations

import pytest

from kitepy.engine.model.container_config import RestartPolicy
from kitepy.engine.services.restart_policy import RestartDecision, after_exit, at_engine_start

ALWAYS = RestartPolicy(name="always")
UNLESS_STOPPED = RestartPolicy(name="unless-stopped")
ON_FAILURE = RestartPolicy(name="on-failure")
NO = RestartPolicy(name="no")


def decide(
    policy: RestartPolicy,
    *,
    code: int = 1,
    ran_s: float = 0.5,
    attempts: int = 0,
    restarts: int = 0,
    stopped: bool = False,
    cancelled: bool = False,
) -> RestartDecision:
    return after_exit(
        policy,
        exit_code=code,
        ran_s=ran_s,
        attempts=attempts,
        restarts=restarts,
        stopped_by_user=stopped,
        cancelled=cancelled,
    )


def test_without_a_policy_it_stays_stopped() -> None:
    assert decide(NO).delay_s is None


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS_STOPPED])
@pytest.mark.parametrize("code", [0, 1, 137])
def test_it_comes_back_whatever_the_exit_code(policy: RestartPolicy, code: int) -> None:
    assert decide(policy, code=code).delay_s == 0.1


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS_STOPPED, ON_FAILURE])
def test_it_stays_stopped_when_the_restart_was_cancelled(policy: RestartPolicy) -> None:
    assert decide(policy, cancelled=True).delay_s is None


def test_a_signal_of_the_user_that_cancels_nothing_only_ends_unless_stopped() -> None:
    assert decide(UNLESS_STOPPED, stopped=True).delay_s is None
    assert decide(ALWAYS, stopped=True).delay_s == 0.1
    assert decide(ON_FAILURE, stopped=True).delay_s == 0.1


def test_on_failure_means_a_code_other_than_zero() -> None:
    assert decide(ON_FAILURE, code=0).delay_s is None
    assert decide(ON_FAILURE, code=2).delay_s == 0.1


def test_on_failure_counts_its_attempts() -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    attempts = 0
    delays = []
    for restarts in range(3):
        decision = decide(policy, attempts=attempts, restarts=restarts)
        attempts = decision.attempts
        delays.append(decision.delay_s)
    assert delays == [0.1, 0.2, None]


def test_on_failure_counts_restarts_that_lasted_too() -> None:
    assert decide(RestartPolicy(name="on-failure", maximum_retry_count=2), ran_s=60, restarts=2).delay_s is None


def test_delays_double_up_to_a_minute() -> None:
    attempts = 0
    delays: list[float] = []
    for _ in range(12):
        decision = decide(ALWAYS, attempts=attempts)
        assert decision.delay_s is not None
        delays.append(decision.delay_s)
        attempts = decision.attempts
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [60, 60]
    assert decide(ALWAYS, attempts=10**6).delay_s == 60


def test_ten_seconds_of_running_start_the_delays_over() -> None:
    assert decide(ALWAYS, attempts=9, ran_s=10.0) == RestartDecision(0.1, 1)
    assert decide(ALWAYS, attempts=9, ran_s=9.9).delay_s == pytest.approx(51.2)


@pytest.mark.parametrize(
    ("policy", "was_running", "code", "stopped", "starts"),
    [
        (ALWAYS, True, 0, True, True),
        (UNLESS_STOPPED, True, 0, False, True),
        (UNLESS_STOPPED, True, 137, True, False),
        (ON_FAILURE, True, 1, False, True),
        (ON_FAILURE, True, 0, False, False),
        (ON_FAILURE, False, 1, False, False),
        (NO, True, 1, False, False),
    ],
)
def test_the_engines_start_honours_the_policy(
    policy: RestartPolicy, was_running: bool, code: int, stopped: bool, starts: bool
) -> None:
    assert at_engine_start(policy, was_running=was_running, exit_code=code, restarts=1, stopped_by_user=stopped) is starts


def test_the_engines_start_gives_no_more_tries_than_are_left() -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    for restarts, starts in ((1, True), (2, False)):
        assert at_engine_start(policy, was_running=True, exit_code=1, restarts=restarts, stopped_by_user=False) is starts

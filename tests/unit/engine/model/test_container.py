"""The table of state transitions."""

from __future__ import annotations

import itertools

import pytest

from kitepy.engine.model.container import TRANSITIONS, ContainerState, ContainerStatus
from kitepy.engine.model.errors import Conflict

S = ContainerStatus


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)))
def test_only_the_tables_steps_are_possible(before: ContainerStatus, after: ContainerStatus) -> None:
    state = ContainerState(before, pid=5)
    if after in TRANSITIONS[before]:
        assert state.to(after, pid=7) == ContainerState(after, pid=7)
    else:
        with pytest.raises(Conflict, match=f"a container that is {before.value} can't become {after.value}"):
            state.to(after)


def test_every_status_has_a_row_and_a_way_to_the_end() -> None:
    assert set(TRANSITIONS) == set(S)
    for status in S:
        reached, fresh = {status}, {status}
        while fresh:
            fresh = {later for one in fresh for later in TRANSITIONS[one]} - reached
            reached |= fresh
        assert S.REMOVING in reached


def test_what_runs_cannot_be_removed() -> None:
    assert all(S.REMOVING not in TRANSITIONS[status] for status in S if status.counts_as_running)


def test_the_predicates() -> None:
    assert {status for status in S if status.has_process} == {S.RUNNING, S.PAUSED}
    assert {status for status in S if status.counts_as_running} == {S.RUNNING, S.PAUSED, S.RESTARTING}

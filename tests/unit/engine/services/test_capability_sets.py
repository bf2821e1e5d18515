"""Arithmetic of capabilities."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.capability_sets import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, effective_capabilities


def test_the_default_set_is_dockers_fourteen() -> None:
    assert set(effective_capabilities((), (), False)) == set(DEFAULT_CAPABILITIES)
    assert len(DEFAULT_CAPABILITIES) == 14
    assert sum(1 << ALL_CAPABILITIES.index(name) for name in DEFAULT_CAPABILITIES) == 0xA80425FB


def test_names_are_in_the_kernels_order() -> None:
    assert len(ALL_CAPABILITIES) == 41
    assert ALL_CAPABILITIES[21] == "CAP_SYS_ADMIN"
    assert ALL_CAPABILITIES[40] == "CAP_CHECKPOINT_RESTORE"


@pytest.mark.parametrize("name", ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN", "net_admin"])
def test_a_capability_may_be_written_in_any_way(name: str) -> None:
    assert set(effective_capabilities([name], (), False)) == {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}
    assert effective_capabilities([name], ["ALL"], False) == ("CAP_NET_ADMIN",)


def test_dropping_takes_away_and_adding_wins() -> None:
    assert "CAP_CHOWN" not in effective_capabilities((), ["CHOWN"], False)
    assert "CAP_CHOWN" in effective_capabilities(["CHOWN"], ["CHOWN"], False)
    assert effective_capabilities((), ["all"], False) == ()


def test_all_means_all_but_the_dropped() -> None:
    assert effective_capabilities(["ALL"], (), False) == ALL_CAPABILITIES
    assert set(ALL_CAPABILITIES) - set(effective_capabilities(["ALL"], ["MKNOD"], False)) == {"CAP_MKNOD"}


def test_privileged_has_everything_whatever_is_dropped() -> None:
    assert effective_capabilities((), ["ALL"], True) == ALL_CAPABILITIES


@pytest.mark.parametrize("names", [["NONSENSE"], [""], ["CAP_"]])
def test_unknown_ones_are_refused_even_when_privileged(names: list[str]) -> None:
    for privileged in (False, True):
        with pytest.raises(InvalidParameter, match="invalid capability"):
            effective_capabilities((), names, privileged)

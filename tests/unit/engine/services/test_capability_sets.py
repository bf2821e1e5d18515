"""Arithmetic of capabilities."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.capability_sets import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    check_available,
    effective_capabilities,
    lacking_capabilities,
)


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
        with pytest.raises(InvalidParameter, match="invalid CapDrop: unknown capability"):
            effective_capabilities((), names, privileged)


def test_what_a_process_has_not_or_the_kernel_does_not_know_is_lacking() -> None:
    everything = (1 << 41) - 1
    assert lacking_capabilities(everything, 40) == frozenset()
    assert lacking_capabilities(everything & ~(1 << 25), 40) == {"CAP_SYS_TIME"}
    assert lacking_capabilities(-1, 37) == {"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"}


@pytest.mark.parametrize("name", ["SYS_TIME", "cap_sys_time"])
def test_a_lacking_capability_is_refused_only_where_it_is_named(name: str) -> None:
    lacking = {"CAP_SYS_TIME", "CAP_NET_RAW"}
    check_available(["ALL", "NET_ADMIN"], lacking)
    check_available((), lacking)
    with pytest.raises(InvalidParameter, match='"CAP_SYS_TIME"'):
        check_available(["NET_ADMIN", name], lacking)

"""Merging an update with what is set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kitepy.engine.model.container_config import ContainerUpdateBody, HostConfig, RestartPolicy, Ulimit
from kitepy.engine.model.errors import Conflict, InvalidParameter
from kitepy.engine.services.container_update import apply_update, changed_resources

MEGA = 1024 * 1024
LIMITED = HostConfig(memory=64 * MEGA, memory_swap=128 * MEGA, cpu_shares=5, restart_policy=RestartPolicy(name="always"))


def update(host: HostConfig, **fields: Any) -> HostConfig:
    return apply_update("c0ffee", host, ContainerUpdateBody(**fields))[0]


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({}, {}),
        ({"memory": 65 * MEGA}, {"memory": 65 * MEGA}),
        ({"memory": 256 * MEGA, "memory_swap": -1}, {"memory": 256 * MEGA, "memory_swap": -1}),
        ({"restart_policy": RestartPolicy(name="no")}, {"restart_policy": RestartPolicy(name="no")}),
        ({"restart_policy": RestartPolicy(maximum_retry_count=3)}, {}),
        ({"pids_limit": 7}, {"pids_limit": 7}),
        ({"pids_limit": -1}, {"pids_limit": 0}),
        ({"memory_reservation": 512 * MEGA}, {"memory_reservation": 512 * MEGA}),
    ],
)
def test_an_update_changes_only_what_it_names(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    assert update(LIMITED, **fields) == msgspec.structs.replace(LIMITED, **changes)


@pytest.mark.parametrize(
    ("host", "fields", "words"),
    [
        (LIMITED, {"memory": 256 * MEGA}, "Memory limit should be smaller than already set memoryswap limit"),
        (HostConfig(), {"memory": 64 * MEGA}, "Memory limit should be smaller than already set memoryswap limit"),
        (HostConfig(nano_cpus=1), {"cpu_period": 5000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (HostConfig(nano_cpus=1), {"cpu_quota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (HostConfig(cpu_quota=5000), {"nano_cpus": 10**8}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (HostConfig(auto_remove=True), {"restart_policy": RestartPolicy(name="always")}, "because AutoRemove is enabled"),
    ],
)
def test_what_contradicts_what_is_set_is_a_conflict(host: HostConfig, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Conflict, match=f"^Cannot update container c0ffee: .*{words}"):
        update(host, **fields)


@pytest.mark.parametrize(
    "fields", [{"memory": 5 * MEGA}, {"cpu_shares": 1}, {"cpu_shares": -1}, {"memory_swap": 32 * MEGA}, {"cpu_quota": 10}]
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        update(LIMITED, **fields)


def test_what_an_update_does_not_cover_is_left_and_said() -> None:
    after, warnings = apply_update(
        "c", LIMITED, ContainerUpdateBody(ulimits=[Ulimit(name="nofile", soft=1, hard=1)], cpu_percent=5)
    )
    assert after == LIMITED
    assert warnings == [
        "Ulimits can't be updated and was left as it is.",
        "CpuPercent can't be updated and was left as it is.",
    ]


def test_a_limit_of_processes_can_be_taken_back_from_a_running_container() -> None:
    body = ContainerUpdateBody(pids_limit=-1)
    resources = changed_resources(update(HostConfig(pids_limit=9), pids_limit=-1), body)
    assert resources == {"pids": {"limit": -1}}

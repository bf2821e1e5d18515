"""``POST /containers/{id}/update``: how new limits and a new restart policy are merged with the old, and what contradicts; pure.

Like dockerd, an update leaves alone what it gives as zero or not at all, and can't take a limit back but by a value that says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kitepy.engine.model.container_config import ContainerUpdateBody, HostConfig, Resources
from kitepy.engine.model.errors import Conflict, InvalidParameter
from kitepy.engine.services.container_request import check_host_config, fill_host_config
from kitepy.engine.services.process_spec import build_resources
from kitepy.engine.services.request_limits import EVERYTHING, LimitSupport

_CHANGEABLE = (
    "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period", "cpu_realtime_runtime", "cpu_shares", "cpuset_cpus",
    "cpuset_mems", "memory", "memory_reservation", "memory_swap", "nano_cpus", "pids_limit",
)  # fmt: skip
_NOT_SAID = (None, 0, "")
_CPU_SHARES = range(2, 262_145)


def apply_update(
    container_id: str, host: HostConfig, body: ContainerUpdateBody, support: LimitSupport = EVERYTHING
) -> tuple[HostConfig, list[str]]:
    """The configuration after the update, and warnings. Raises InvalidParameter, Unsupported, or Conflict with what is set."""
    changes = {name: value for name in _CHANGEABLE if (value := getattr(body, name)) not in _NOT_SAID}
    if body.pids_limit is not None:
        changes["pids_limit"] = max(0, body.pids_limit)
    if body.cpu_shares and body.cpu_shares not in _CPU_SHARES:
        raise InvalidParameter(f"invalid CPU shares {body.cpu_shares}: they range from {_CPU_SHARES[0]} to {_CPU_SHARES[-1]}")
    asked = {**changes}
    if not body.memory and body.memory_swap > 0:
        asked["memory"] = host.memory  # a limit for both is checked against the one for memory, whoever set that
    if body.restart_policy.name:
        changes["restart_policy"] = asked["restart_policy"] = body.restart_policy
    checked, warnings = check_host_config(fill_host_config(msgspec.structs.replace(HostConfig(), **asked)), support=support)
    for name in set(changes) - {"pids_limit", "restart_policy"}:
        changes[name] = getattr(checked, name)
        if changes[name] in _NOT_SAID:  # this machine can't limit it
            del changes[name]
    if conflict := _conflict(host, body):
        raise Conflict(f"Cannot update container {container_id}: {conflict}")
    warnings += [
        f"{_api_name(name)} can't be updated and was left as it is."
        for name in Resources.__struct_fields__
        if name not in _CHANGEABLE and getattr(body, name) not in (*_NOT_SAID, []) and getattr(body, name) != getattr(host, name)
    ]
    updated: HostConfig = msgspec.structs.replace(host, **changes)
    return updated, warnings


def changed_resources(updated: HostConfig, body: ContainerUpdateBody) -> dict[str, Any]:
    """``linux.resources`` for a container that runs: without the rules of devices, which an update doesn't change."""
    resources = build_resources(updated)
    del resources["devices"]
    if body.pids_limit is not None and not updated.pids_limit:
        resources["pids"] = {"limit": -1}
    return resources


def _conflict(host: HostConfig, body: ContainerUpdateBody) -> str:
    """Why a value can't be joined with those that are set; worded as dockerd does."""
    for name, title in (("cpu_period", "CPU Period"), ("cpu_quota", "CPU Quota")):
        if body.nano_cpus > 0 and getattr(host, name) > 0:
            return f"Conflicting options: Nano CPUs cannot be updated as {title} has already been set"
        if getattr(body, name) > 0 and host.nano_cpus > 0:
            return f"Conflicting options: {title} cannot be updated as NanoCPUs has already been set"
    if body.memory and not body.memory_swap and body.memory > host.memory_swap:
        return "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    if host.auto_remove and body.restart_policy.name not in ("", "no"):
        return "Restart policy cannot be updated because AutoRemove is enabled for the container"
    return ""


def _api_name(name: str) -> str:
    fields = {field.name: field.encode_name for field in msgspec.structs.fields(Resources)}
    return fields[name]

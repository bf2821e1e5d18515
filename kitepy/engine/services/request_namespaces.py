"""Rules for namespaces and cgroups in a request: which modes there are, and which exclude each other; pure."""

from __future__ import annotations

from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter

SHAREABLE = "shareable"
_CONTAINER = "container:"


def check_namespaces(host: HostConfig) -> None:
    """A mode that isn't understood must not turn into the default one silently; raises InvalidParameter."""
    if host.pid_mode not in ("", "host") and not shared_container(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.ipc_mode not in ("", "none", "private", SHAREABLE, "host") and not shared_container(host.ipc_mode):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")


def shared_container(mode: str) -> str:
    """The container whose namespace ``container:<name or id>`` joins; empty for any other mode."""
    return mode.removeprefix(_CONTAINER) if mode.startswith(_CONTAINER) else ""


def implied_security_options(host: HostConfig) -> list[str]:
    """What dockerd adds to SecurityOpt: who shares the host's processes or IPC can't be kept apart by SELinux labels."""
    if host.security_opt and any(option.startswith("label") for option in host.security_opt):
        return []
    return ["label=disable"] if host.privileged or host.pid_mode == "host" or host.ipc_mode == "host" else []

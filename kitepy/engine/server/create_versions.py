"""What older versions of the API mean by a create request: fields they don't know, defaults that have changed since; pure."""

from __future__ import annotations

from typing import Any

import msgspec

from kitepy.engine.model.container_config import (
    ContainerCreateBody,
    EndpointSettings,
    HostConfig,
    Mount,
    NetworkingConfig,
)
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.errors import BadRequest


def adapt_create(body: ContainerCreateBody, platform: str | None, version: ApiVersion) -> tuple[ContainerCreateBody, str | None]:
    """The request in today's terms; raises BadRequest for what its version refuses."""
    if version >= (1, 48):
        return body, platform
    host = _adapt_host(body.host_config, version)
    networking = _adapt_networking(body, version)
    health = body.healthcheck
    if version < (1, 44) and health is not None:
        health = msgspec.structs.replace(health, start_interval=0)
    changes: dict[str, Any] = {"host_config": host, "networking_config": networking, "healthcheck": health}
    if version < (1, 44):
        changes["mac_address"] = ""  # it is the endpoint's now, and nothing to warn of
    return msgspec.structs.replace(body, **changes), platform if version >= (1, 41) else None


def read_only_is_flat(version: ApiVersion) -> bool:
    """Whether a read-only bind leaves what is mounted below writable: it was so before v1.44."""
    return version < (1, 44)


def _mode_of(host: HostConfig) -> str:
    return host.network_mode if host.network_mode not in ("", "default") else "bridge"


def _adapt_host(host: HostConfig, version: ApiVersion) -> HostConfig:
    changes: dict[str, Any] = {}
    if version < (1, 40):
        changes["ipc_mode"] = host.ipc_mode or "shareable"
        changes["kernel_memory_tcp"] = 0
    if version < (1, 41):
        changes["cgroupns_mode"] = "host"
    if version < (1, 42):
        changes["console_size"] = (0, 0)
    if version < (1, 43):
        changes["annotations"] = None
    if host.mounts:
        changes["mounts"] = [_adapt_mount(mount, version) for mount in host.mounts]
    changed: HostConfig = msgspec.structs.replace(host, **changes)
    return changed


def _adapt_mount(mount: Mount, version: ApiVersion) -> Mount:
    bind, volume = mount.bind_options, mount.volume_options
    if mount.type == "image":
        raise BadRequest('Mount type "Image" needs API v1.48 or newer')
    if bind is not None:
        if version < (1, 40):
            bind = msgspec.structs.replace(bind, non_recursive=False)
        if version < (1, 42):
            bind = msgspec.structs.replace(bind, create_mountpoint=False)
        if version < (1, 44) and bind.read_only_force_recursive:
            raise BadRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if volume is not None and volume.subpath and version < (1, 45):
        raise BadRequest("VolumeOptions.Subpath needs API v1.45 or newer")
    changed: Mount = msgspec.structs.replace(mount, bind_options=bind)
    return changed


def _adapt_networking(body: ContainerCreateBody, version: ApiVersion) -> NetworkingConfig:
    endpoints = dict(body.networking_config.endpoints_config or {})
    if version < (1, 44):
        if len(endpoints) > 1:
            names = ", ".join(sorted(endpoints))
            raise BadRequest(f"Container cannot be created with multiple network endpoints: {names}")
        for name, settings in endpoints.items():
            if settings is not None:
                endpoints[name] = msgspec.structs.replace(settings, mac_address="")
        mode = _mode_of(body.host_config)
        if body.mac_address and mode not in ("none", "host") and not mode.startswith("container:"):
            name = next(iter(endpoints), mode)
            endpoints[name] = msgspec.structs.replace(endpoints.get(name) or EndpointSettings(), mac_address=body.mac_address)
    for name, settings in endpoints.items():
        if settings is not None and settings.gw_priority:
            endpoints[name] = msgspec.structs.replace(settings, gw_priority=0)
    return NetworkingConfig(endpoints_config=endpoints)

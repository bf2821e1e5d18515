"""Device nodes of the host for ``--device`` and ``--privileged``: looked up in /dev, never created there."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from kitepy.engine.model.container_config import DeviceMapping, HostConfig
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.process_spec import HostDevice

_SKIPPED = {"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev", "ptmx"}


def devices_for(host: HostConfig) -> tuple[HostDevice, ...]:
    """All devices that the configuration asks for; raises InvalidParameter for what is no device."""
    found = {device.path: device for device in all_devices(Path("/dev"))} if host.privileged else {}
    for mapping in host.devices or ():
        for device in _mapped(mapping):
            found[device.path] = device
    return tuple(found.values())


def block_limits_for(host: HostConfig) -> dict[str, Any]:
    """The limits of single block devices, by number as the OCI document has them; raises InvalidParameter for a missing one."""
    limits: dict[str, Any] = {}
    if host.blkio_weight_device:
        limits["weightDevice"] = [{**_numbers(entry.path), "weight": entry.weight} for entry in host.blkio_weight_device]
    for name, entries in (
        ("throttleReadBpsDevice", host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", host.blkio_device_write_iops),
    ):
        if entries:
            limits[name] = [{**_numbers(entry.path), "rate": entry.rate} for entry in entries]
    return limits


def _numbers(path: str) -> dict[str, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise InvalidParameter(f"stat {path}: no such file or directory") from None
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}


def refuse_device_requests(host: HostConfig) -> None:
    """There are no drivers that could serve such requests (GPUs, mostly); as with dockerd that shows at the start."""
    for request in host.device_requests or ():
        if request.driver == "cdi":
            raise InvalidParameter(f"CDI device injection failed: unresolvable CDI devices {', '.join(request.device_ids or ())}")
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or ())
        raise InvalidParameter(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')


def all_devices(directory: Path) -> list[HostDevice]:
    """Every device node below a directory."""
    devices: list[HostDevice] = []
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name in _SKIPPED:
            continue
        if entry.is_dir(follow_symlinks=False):
            devices += all_devices(Path(entry.path))
        elif device := _device(entry.path, entry.path, "rwm"):
            devices.append(device)
    return devices


def _mapped(mapping: DeviceMapping) -> list[HostDevice]:
    source = mapping.path_on_host
    target = mapping.path_in_container or source
    access = mapping.cgroup_permissions or "rwm"
    if not set(access) <= set("rwm"):
        raise InvalidParameter(f"invalid device permissions '{access}' for {source}: use letters of 'rwm'")
    if os.path.isdir(source):
        inside = all_devices(Path(source))
        return [replace(device, path=target + device.path.removeprefix(source), access=access) for device in inside]
    device = _device(os.path.realpath(source), target, access)
    if device is None:
        raise InvalidParameter(f'error gathering device information while adding custom device "{source}": not a device node')
    return [device]


def _device(path: str, target: str, access: str) -> HostDevice | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return HostDevice(
        path=target,
        source=path,
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )

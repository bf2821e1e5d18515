"""Device nodes for containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitepy.engine.model.container_config import DeviceMapping, HostConfig
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.devices import devices_for


def test_no_device_is_given_unasked() -> None:
    assert devices_for(HostConfig()) == ()


def test_a_device_may_have_another_name_and_less_access() -> None:
    mapping = DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/nothing", cgroup_permissions="r")
    (device,) = devices_for(HostConfig(devices=[mapping]))
    assert (device.path, device.kind, device.major, device.minor, device.access) == ("/dev/nothing", "c", 1, 3, "r")


def test_a_link_to_a_device_is_looked_through(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/zero")
    (device,) = devices_for(HostConfig(devices=[DeviceMapping(path_on_host=str(link), path_in_container="/dev/z")]))
    assert (device.path, device.minor) == ("/dev/z", 5)


@pytest.mark.parametrize("path", ["/etc/passwd", "/nonexistent", ""])
def test_what_is_no_device_is_refused(path: str) -> None:
    with pytest.raises(InvalidParameter, match="not a device node"):
        devices_for(HostConfig(devices=[DeviceMapping(path_on_host=path)]))


def test_permissions_are_letters_of_rwm() -> None:
    with pytest.raises(InvalidParameter, match="invalid device permissions 'x'"):
        devices_for(HostConfig(devices=[DeviceMapping(path_on_host="/dev/null", cgroup_permissions="x")]))


def test_privileged_gets_what_the_host_has() -> None:
    paths = {device.path for device in devices_for(HostConfig(privileged=True))}
    assert {"/dev/null", "/dev/zero"} <= paths
    assert not any(path.startswith("/dev/pts/") for path in paths)

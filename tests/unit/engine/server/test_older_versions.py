"""What clients of older API versions see."""

from __future__ import annotations

from kitepy.engine.server import older_versions
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.older_versions import image_inspection, image_summary

IMAGE = {"Id": "sha256:0", "Size": 7, "Config": {"Cmd": ["sh"]}}


def test_the_newest_version_sees_what_there_is() -> None:
    assert image_inspection(IMAGE, ApiVersion(1, 51)) == IMAGE
    assert image_summary(IMAGE, ApiVersion(1, 44)) == IMAGE


def test_each_older_version_sees_what_it_had() -> None:
    assert image_summary(IMAGE, ApiVersion(1, 43))["VirtualSize"] == 7
    assert "Hostname" not in image_inspection(IMAGE, ApiVersion(1, 50))["Config"]
    details = image_inspection(IMAGE, ApiVersion(1, 49))
    assert (details["Config"]["Hostname"], details["Config"]["Cmd"]) == ("", ["sh"])
    assert "ContainerConfig" not in image_inspection(IMAGE, ApiVersion(1, 45))
    assert image_inspection(IMAGE, ApiVersion(1, 44))["ContainerConfig"]["Cmd"] is None


INFO = {"FirewallBackend": {"Driver": "nftables"}, "KernelMemoryTCP": True, "SecurityOptions": ["name=seccomp,profile=builtin"]}


def test_info_has_what_its_version_knows() -> None:
    assert older_versions.info(INFO, ApiVersion(1, 51)) == INFO
    older = older_versions.info(INFO, ApiVersion(1, 49))
    assert older == {**INFO, "BridgeNfIptables": False, "BridgeNfIp6tables": False}
    older = older_versions.info(INFO, ApiVersion(1, 41))
    assert "FirewallBackend" not in older
    assert older["KernelMemory"] is True
    assert older_versions.info(INFO, ApiVersion(1, 24))["SecurityOptions"] == ["seccomp"]


def test_disk_usage_has_the_virtual_size_of_images_for_long() -> None:
    usage = {"Images": [{"Size": 5}], "Volumes": None}
    assert older_versions.disk_usage(usage, ApiVersion(1, 43))["Images"] == [{"Size": 5, "VirtualSize": 5}]
    assert older_versions.disk_usage(usage, ApiVersion(1, 44)) == usage
    assert older_versions.disk_usage({"Images": None}, ApiVersion(1, 24)) == {"Images": None}

"""What clients of older API versions see of images."""

from __future__ import annotations

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

"""From options of the local driver to a mount."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.volume.local_driver import VolumeMount, check_options, volume_mount


@pytest.mark.parametrize("options", [None, {}, {"type": "", "device": "", "o": ""}])
def test_nothing_is_mounted_for_a_plain_directory(options: dict[str, str] | None) -> None:
    check_options("v", options or {})
    assert volume_mount(options) is None


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5,,defaults"}, VolumeMount("tmpfs", "tmpfs", 0, "size=1m,uid=5")),
        ({"type": "tmpfs", "device": "x", "o": "ro,nosuid,rw,noexec"}, VolumeMount("tmpfs", "x", 0x2 | 0x8, "")),
        ({"type": "none", "device": "/a", "o": "rbind,ro,rslave"}, VolumeMount("none", "/a", 0x5001, "", 0x84000)),
        ({"type": "nfs", "device": ":/a", "o": "addr=files,nolock"}, VolumeMount("nfs", ":/a", 0, "nolock", 0, "files")),
        ({"type": "cifs", "device": "//files/a", "o": "guest"}, VolumeMount("cifs", "//files/a", 0, "guest", 0, "files")),
        ({"type": "tmpfs", "device": "x", "o": "addr=a"}, VolumeMount("tmpfs", "x", 0, "addr=a")),
    ],
)
def test_options_stand_for_a_mount(options: dict[str, str], mount: VolumeMount) -> None:
    check_options("v", options)
    assert volume_mount(options) == mount


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Type": "tmpfs"}, 'create v: invalid option: "Type"'),
        ({"type": "tmpfs"}, 'create v: missing required option: "device"'),
        ({"device": "x"}, 'create v: missing required option: "type"'),
        ({"size": "1.5g"}, "create v: quota size requested but no quota support"),
        ({"size": "much"}, "create v: invalid size: 'much'"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        check_options("v", options)
    assert str(raised.value) == words

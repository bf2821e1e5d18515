"""The forms in which mounts are asked for."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container import MountKind, MountPoint
from kitepy.engine.model.container_config import (
    BindOptions,
    ContainerConfig,
    DriverConfig,
    HostConfig,
    ImageOptions,
    Mount,
    TmpfsOptions,
    VolumeOptions,
)
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.container_mounts import (
    inherited_mounts,
    inherits_read_only,
    parse_bind,
    parse_mount,
    parse_tmpfs,
    wanted_mounts,
)

PATHS = st.text(alphabet="/.ab:,\0 é=", max_size=20) | st.text(max_size=20)


def _volume_mount(name: str, subpath: str) -> Mount:
    return Mount(type="volume", source=name, target="/b", volume_options=VolumeOptions(subpath=subpath))


def _is_inside(destination: str) -> bool:
    return destination.startswith("/") and destination != "/" and posixpath.normpath(destination) == destination


@given(PATHS)
def test_no_bind_reaches_the_root_or_crashes(spec: str) -> None:
    try:
        point = parse_bind(spec).point
    except InvalidParameter:
        return
    assert _is_inside(point.destination)
    assert ".." not in point.destination.split("/")
    assert "\0" not in point.source + point.destination


@given(
    st.builds(
        Mount,
        type=st.sampled_from(["bind", "volume", "tmpfs", "image", "npipe", ""]) | st.text(max_size=3),
        source=PATHS,
        target=PATHS,
        read_only=st.booleans(),
        tmpfs_options=st.none()
        | st.builds(
            TmpfsOptions,
            size_bytes=st.integers(-5, 5),
            mode=st.integers(0, 0o7777),
            options=st.none() | st.lists(st.lists(st.text(max_size=6), max_size=3), max_size=3),
        ),
        bind_options=st.none() | st.builds(BindOptions, propagation=st.sampled_from(["", "rslave", "x"])),
    )
)
def test_no_long_form_reaches_the_root_or_crashes(mount: Mount) -> None:
    try:
        point = parse_mount(mount).point
    except (InvalidParameter, Unsupported):
        return
    assert _is_inside(point.destination)


@given(PATHS, st.text(max_size=20))
def test_no_tmpfs_reaches_the_root_or_crashes(path: str, options: str) -> None:
    try:
        point = parse_tmpfs(path, options).point
    except InvalidParameter:
        return
    assert _is_inside(point.destination)
    assert "\0" not in "".join(point.tmpfs_options)


def test_a_host_path_is_a_bind_that_is_made_when_missing() -> None:
    wanted = parse_bind("/srv//data/:/data/../x/")
    assert wanted.point == MountPoint(
        MountKind.BIND, "/x", source="/srv/data", mode="", propagation="rprivate", create_source=True, copy_up=False
    )
    assert wanted.default_propagation


def test_a_name_is_a_volume() -> None:
    point = parse_bind("data:/data").point
    assert (point.kind, point.volume, point.copy_up, point.anonymous) == (MountKind.VOLUME, "data", True, False)


def test_a_path_alone_is_an_anonymous_volume() -> None:
    point = parse_bind("/data").point
    assert (point.kind, point.volume, point.anonymous) == (MountKind.VOLUME, "", True)


@pytest.mark.parametrize(
    ("mode", "read_only", "propagation", "copy_up"),
    [
        ("ro", True, "rprivate", False),
        ("rw", False, "rprivate", False),
        ("ro,rslave", True, "rslave", False),
        ("z,ro", True, "rprivate", False),
        ("cached", False, "rprivate", False),
    ],
)
def test_options_of_a_bind(mode: str, read_only: bool, propagation: str, copy_up: bool) -> None:
    point = parse_bind(f"/a:/b:{mode}").point
    assert (point.read_only, point.propagation, point.copy_up, point.mode) == (read_only, propagation, copy_up, mode)


def test_a_volume_can_do_without_the_images_content() -> None:
    assert not parse_bind("data:/b:nocopy,ro").point.copy_up


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "invalid volume specification: ''"),
        ("data", "mount path must be absolute"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b/..", "destination can't be '/'"),
        ("/a:", "invalid volume specification"),
        (":/b", "invalid volume specification"),
        ("/a:/b:ro:x", "invalid volume specification"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:fast", "invalid mode: fast"),
        ("/a:/b:nocopy", "field VolumeOptions must not be specified"),
        ("data:/b:rslave", "field BindOptions must not be specified"),
        ("../a:/b", "includes invalid characters for a local volume name"),
        ("a!:/b", "includes invalid characters for a local volume name"),
        ("a:/b", "volume name is too short"),
    ],
)
def test_malformed_binds_are_refused(spec: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_bind(spec)
    assert words in str(raised.value)


def test_the_long_form_of_a_bind_wants_its_source_to_be_there() -> None:
    wanted = parse_mount(Mount(type="bind", source="/a", target="/b", read_only=True))
    assert not wanted.point.create_source
    assert wanted.point.read_only
    made = parse_mount(Mount(type="bind", source="/a", target="/b", bind_options=BindOptions(create_mountpoint=True)))
    assert made.point.create_source


def test_a_bind_can_leave_out_what_is_mounted_below() -> None:
    point = parse_mount(Mount(type="bind", source="/a", target="/b", bind_options=BindOptions(non_recursive=True))).point
    assert point.non_recursive
    assert point.propagation == "rprivate"


def test_the_long_form_of_a_volume_brings_labels_and_nocopy() -> None:
    options = VolumeOptions(no_copy=True, labels={"a": "b"})
    wanted = parse_mount(Mount(type="volume", source="data", target="/b", volume_options=options))
    assert wanted.volume_labels == {"a": "b"}
    assert not wanted.point.copy_up
    assert parse_mount(Mount(type="volume", target="/b")).point.anonymous


def test_a_part_of_a_volume_is_filled_from_the_image_too() -> None:
    point = parse_mount(_volume_mount("data", "x/y")).point
    assert (point.subpath, point.copy_up) == ("x/y", True)


def test_a_bind_is_read_only_all_the_way_down_unless_it_is_not_to_be() -> None:
    def point(options: BindOptions | None) -> MountPoint:
        return parse_mount(Mount(type="bind", source="/a", target="/b", read_only=True, bind_options=options)).point

    assert not point(None).flat_read_only
    assert point(BindOptions(read_only_non_recursive=True)).flat_read_only
    assert not point(BindOptions(read_only_force_recursive=True)).flat_read_only


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (
            Mount(type="volume", target="/b", bind_options=BindOptions()),
            'BindOptions must not be specified on mount type "volume"',
        ),
        (
            Mount(type="bind", target="/b", tmpfs_options=TmpfsOptions()),
            'TmpfsOptions must not be specified on mount type "bind"',
        ),
        (Mount(type="tmpfs", target="/b", volume_options=VolumeOptions()), "VolumeOptions must not be specified on"),
        (Mount(type="volume", source="a/b", target="/b"), "create a/b: "),
        (Mount(type="volume", source="a", target="/b"), "volume name is too short"),
    ],
)
def test_options_and_names_of_another_kind_are_refused(mount: Mount, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_mount(mount)
    assert words in str(raised.value)


def test_an_image_may_name_volumes_without_a_slash() -> None:
    (wanted,) = wanted_mounts(ContainerConfig(volumes={"data": {}}), HostConfig(volume_driver="nfs"))
    assert (wanted.point.destination, wanted.driver) == ("/data", "nfs")


def test_only_the_long_form_of_a_tmpfs_is_listed() -> None:
    assert parse_mount(Mount(type="tmpfs", target="/b")).point.listed
    assert not parse_tmpfs("/b", "").point.listed


def test_the_long_form_of_a_tmpfs_becomes_mount_options() -> None:
    options = TmpfsOptions(size_bytes=1024, mode=0o1770, options=[["noexec"]])
    point = parse_mount(Mount(type="tmpfs", target="/b", read_only=True, tmpfs_options=options)).point
    assert point.tmpfs_options == ("ro", "size=1024", "mode=1770", "noexec")
    assert point.mode == ""
    assert point.read_only


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (Mount(type="bind", source="/a"), "field Target must not be empty"),
        (Mount(type="bind", target="/b"), "field Source must not be empty"),
        (Mount(type="bind", source="a", target="/b"), "mount path must be absolute"),
        (Mount(type="bind", source="/a", target="/b", bind_options=BindOptions(propagation="x")), "invalid propagation mode: x"),
        (Mount(type="volume", target="/b", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (_volume_mount("", "x"), "must not set Subpath when using anonymous volumes"),
        (_volume_mount("data", "/x"), "subpath must be a relative path within the volume"),
        (_volume_mount("data", "x/../../y"), "subpath must be a relative path within the volume"),
        (Mount(type="bind", source="/a", target="/b", image_options=ImageOptions()), "field ImageOptions must not be specified"),
        (Mount(type="tmpfs", target="/b", tmpfs_options=TmpfsOptions(options=[[]])), "invalid option array length"),
        (Mount(type="tmpfs", target="/b", tmpfs_options=TmpfsOptions(options=[["uid", "5"]])), "invalid option: uid"),
        (Mount(type="cluster", target="/b"), "mount type unknown"),
        (Mount(type="tmpfs", source="/a", target="/b"), "field Source must not be specified"),
        (Mount(type="tmpfs", target="/b", tmpfs_options=TmpfsOptions(size_bytes=-1)), "size must not be negative"),
        (Mount(type="floppy", target="/b"), "mount type unknown"),
        (Mount(target="/b"), "mount type unknown"),
    ],
)
def test_malformed_long_forms_are_refused(mount: Mount, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_mount(mount)
    assert words in str(raised.value)
    assert str(raised.value).startswith("invalid mount config for type")


def test_driver_options_are_handed_on() -> None:
    options = VolumeOptions(labels={"a": "b"}, driver_config=DriverConfig(name="local", options={"type": "nfs"}))
    wanted = parse_mount(Mount(type="volume", target="/b", volume_options=options))
    assert (wanted.driver, wanted.driver_options, wanted.volume_labels) == ("local", {"type": "nfs"}, {"a": "b"})


def test_an_image_is_mounted_read_only_whatever_was_wished_for() -> None:
    for read_only in (False, True):
        options = ImageOptions(subpath="etc")
        point = parse_mount(Mount(type="image", source="a:1", target="/b/", read_only=read_only, image_options=options)).point
        assert (point.kind, point.image, point.destination) == (MountKind.IMAGE, "a:1", "/b")
        assert (point.read_only, point.subpath, point.copy_up) == (True, "etc", False)


@pytest.mark.parametrize("options", ["what", "size", "exec=1", "size=1m,bind"])
def test_only_options_that_tmpfs_knows_are_taken(options: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid tmpfs option"):
        parse_tmpfs("/b", options)


# --- all of them together --------------------------------------------------------------------------------------------


def test_parents_are_mounted_before_what_lies_in_them() -> None:
    host = HostConfig(binds=["/1:/a/b/c", "/2:/a"], tmpfs={"/a/b": ""})
    assert [wanted.point.destination for wanted in wanted_mounts(ContainerConfig(), host)] == ["/a", "/a/b", "/a/b/c"]


def test_two_mounts_at_one_place_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /a"):
        wanted_mounts(ContainerConfig(), HostConfig(binds=["/1:/a", "/2:/a/"]))
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /a"):
        wanted_mounts(ContainerConfig(), HostConfig(binds=["/1:/a"], tmpfs={"/a": ""}))


def test_a_chosen_mount_takes_the_place_of_the_images_volume_and_of_inherited_ones() -> None:
    inherited = [MountPoint(MountKind.VOLUME, "/data", volume="theirs"), MountPoint(MountKind.VOLUME, "/logs", volume="logs")]
    found = wanted_mounts(
        ContainerConfig(volumes={"/data": {}, "/logs/": {}, "/new": {}}), HostConfig(binds=["/1:/data"]), inherited
    )
    assert {(wanted.point.destination, wanted.point.kind, wanted.point.volume) for wanted in found} == {
        ("/data", MountKind.BIND, ""),
        ("/logs", MountKind.VOLUME, "logs"),
        ("/new", MountKind.VOLUME, ""),
    }


def test_inherited_mounts_can_be_made_read_only_but_not_writable() -> None:
    points = [
        MountPoint(MountKind.VOLUME, "/a", volume="a"),
        MountPoint(MountKind.BIND, "/b", source="/b", read_only=True),
        MountPoint(MountKind.TMPFS, "/c"),
    ]
    taken = inherited_mounts(points, read_only=False)
    assert [(point.destination, point.read_only) for point in taken] == [("/a", False), ("/b", True)]
    assert all(point.read_only for point in inherited_mounts(points, read_only=True))
    assert not any(point.copy_up for point in taken)


@pytest.mark.parametrize(
    ("mode", "read_only"), [("", False), ("rw", False), ("ro", True), ("z,ro", True), ("cached", False), ("Z,ro,cached", True)]
)
def test_modes_of_inherited_mounts(mode: str, read_only: bool) -> None:
    assert inherits_read_only(mode) is read_only


@pytest.mark.parametrize("mode", ["foo", "ro,rw", "ro,ro", "nocopy", "rshared", "ro,", "z,Z", "RO"])
def test_other_modes_of_inherited_mounts_are_refused(mode: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid mode: {mode}$"):
        inherits_read_only(mode)


def test_of_several_containers_the_last_ones_mount_is_inherited() -> None:
    points = [MountPoint(MountKind.VOLUME, "/a", volume=name) for name in ("one", "two")]
    assert [wanted.point.volume for wanted in wanted_mounts(ContainerConfig(), HostConfig(), points)] == ["two"]

"""Reads the forms in which a user asks for mounts (``-v``, ``--mount``, ``--tmpfs``, VOLUME) into one list; pure.

Creating directories and volumes is for the containers service.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kitepy.engine.model.container import MountKind, MountPoint
from kitepy.engine.model.container_config import BindOptions, ContainerConfig, HostConfig, Mount
from kitepy.engine.model.errors import InvalidParameter

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_LABELS = frozenset({"z", "Z"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated"})
_INHERITED_MODES = (frozenset({"ro", "rw"}), _LABELS, _CONSISTENCY)
_TMPFS_FLAGS = frozenset(
    {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime", "relatime"}
    | {"norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime"}
)
_WITHOUT_EFFECT = _PROPAGATION | {"defaults"}
_TMPFS_FLAGS |= _WITHOUT_EFFECT
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})


@dataclass(frozen=True)
class WantedMount:
    """A mount point, and what must be done before it can be used."""

    point: MountPoint
    volume_labels: Mapping[str, str] | None = None
    driver: str = ""
    """Who is to make the volume."""
    driver_options: Mapping[str, str] | None = None
    default_propagation: bool = False
    """Whether the user left the propagation to the engine."""


def wanted_mounts(config: ContainerConfig, host: HostConfig, inherited: Iterable[MountPoint] = ()) -> list[WantedMount]:
    """All mounts by destination: binds and mounts first, then ``--volumes-from``, then volumes nobody gave a source for.

    Raises InvalidParameter for malformed or duplicate ones.
    """
    chosen: dict[str, WantedMount] = {}
    for spec in host.binds or ():
        _claim(chosen, parse_bind(spec, host.volume_driver))
    for mount in host.mounts or ():
        _claim(chosen, parse_mount(mount))
    for destination, options in (host.tmpfs or {}).items():
        _claim(chosen, parse_tmpfs(destination, options))
    taken_over = {point.destination: WantedMount(point) for point in inherited}  # of several containers the last one's
    chosen = {**taken_over, **chosen}
    for path in config.volumes or ():
        destination = volume_destination(path)
        if destination not in chosen:
            chosen[destination] = WantedMount(
                MountPoint(MountKind.VOLUME, destination, anonymous=True), driver=host.volume_driver
            )
    return sorted(chosen.values(), key=lambda wanted: wanted.point.destination.count("/"))


def _claim(chosen: dict[str, WantedMount], wanted: WantedMount) -> None:
    if wanted.point.destination in chosen:
        raise InvalidParameter(f"Duplicate mount point: {wanted.point.destination}")
    chosen[wanted.point.destination] = wanted


def clean_destination(path: str) -> str:
    """An absolute, normalised path inside the container; never its root. Raises InvalidParameter."""
    if "\0" in path:
        raise InvalidParameter("invalid mount path: a path can't contain a NUL character")
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")
    destination = posixpath.normpath("/" + path.lstrip("/"))
    if destination == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    return destination


def volume_destination(path: str) -> str:
    """Where an image's VOLUME, or a volume without a source, goes: images also name paths that are relative to the root."""
    if not path:
        raise InvalidParameter("invalid volume specification: the path is empty")
    try:
        return clean_destination("/" + path.lstrip("/"))
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid volume specification: '{path}': {error}") from None


def parse_bind(spec: str, driver: str = "") -> WantedMount:
    """``[source:]destination[:options]``: a host path, a volume's name, or an anonymous volume; ``driver`` is that of volumes."""
    if "\0" in spec:
        raise InvalidParameter("invalid volume specification: a path can't contain a NUL character")
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidParameter(f"invalid volume specification: '{spec}'")
    if len(parts) == 1:
        point = MountPoint(MountKind.VOLUME, _bind_destination("volume", parts[0], spec), mode="z", anonymous=True)
        return WantedMount(point, driver=driver)
    source = parts[0]
    kind = "bind" if source.startswith("/") else "volume"
    mode = parts[2] if len(parts) == 3 else ""
    read_only, propagation, copy_up = _parse_mode(mode, spec, kind)
    destination = _bind_destination(kind, parts[1], spec)
    if kind == "bind":
        point = MountPoint(
            MountKind.BIND,
            destination,
            source=posixpath.normpath(source),
            mode=mode,
            read_only=read_only,
            propagation=propagation or "rprivate",
            create_source=True,
            copy_up=False,
        )
        return WantedMount(point, default_propagation=not propagation)
    check_volume_name(source)
    point = MountPoint(MountKind.VOLUME, destination, volume=source, mode=mode or "z", read_only=read_only, copy_up=copy_up)
    return WantedMount(point, driver=driver)


def check_volume_name(name: str) -> None:
    """Raise InvalidParameter for what can't be a volume's name, worded as dockerd does."""
    if len(name) == 1:
        raise InvalidParameter(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not VOLUME_NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            f'"{VOLUME_NAME.pattern.removesuffix("+")}" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _bind_destination(kind: str, path: str, spec: str) -> str:
    try:
        return clean_destination(path)
    except InvalidParameter as error:
        raise InvalidParameter(
            f"invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {error}"
        ) from None


def _invalid_bind(spec: str, kind: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {reason}")


def _parse_mode(mode: str, spec: str, kind: str) -> tuple[bool, str, bool]:
    read_only, propagation, copy_up = False, "", True
    seen: set[str] = set()
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            group, read_only = "access", word == "ro"
        elif word in _PROPAGATION:
            group, propagation = "propagation", word
        elif word == "nocopy":
            group, copy_up = "copy", False
        elif word in _LABELS:
            group = "label"
        elif word in _CONSISTENCY:
            group = "consistency"
        else:
            raise InvalidParameter(f"invalid mode: {mode}")
        if group in seen:
            raise InvalidParameter(f"invalid mode: {mode}")
        seen.add(group)
    wrong = "VolumeOptions" if kind == "bind" and not copy_up else "BindOptions" if kind == "volume" and propagation else ""
    if wrong:
        raise _invalid_bind(spec, kind, f"field {wrong} must not be specified")
    return read_only, propagation, copy_up


def parse_mount(mount: Mount) -> WantedMount:
    """The long form; checks that options belong to the type. Raises InvalidParameter and Unsupported."""
    _check_option_types(mount)
    try:
        return _parse_mount(mount)
    except _InvalidMount as error:
        raise InvalidParameter(f'invalid mount config for type "{mount.type}": {error}') from None


class _InvalidMount(InvalidParameter):
    """What is wrong with a mount, without the words that come before it."""


def _check_option_types(mount: Mount) -> None:
    for name, options, kind in (
        ("BindOptions", mount.bind_options, "bind"),
        ("VolumeOptions", mount.volume_options, "volume"),
        ("TmpfsOptions", mount.tmpfs_options, "tmpfs"),
    ):
        if options is not None and mount.type in ("bind", "volume", "tmpfs", "image") and mount.type != kind:
            raise InvalidParameter(f'{name} must not be specified on mount type "{mount.type}"')


def _parse_mount(mount: Mount) -> WantedMount:
    if not mount.target:
        raise _InvalidMount("field Target must not be empty")
    if mount.type not in _PARSERS:
        raise _InvalidMount("mount type unknown")
    if "\0" in mount.source:
        raise _InvalidMount("a path can't contain a NUL character")
    if mount.image_options is not None and mount.type != "image":
        raise _InvalidMount("field ImageOptions must not be specified")
    try:
        destination = clean_destination(mount.target)
    except InvalidParameter as error:
        raise _InvalidMount(str(error)) from None
    return _PARSERS[mount.type](mount, destination)


def _parse_volume_mount(mount: Mount, destination: str) -> WantedMount:
    options = mount.volume_options
    subpath = options.subpath if options else ""
    if not mount.source and subpath:
        raise _InvalidMount("must not set Subpath when using anonymous volumes")
    if not mount.source and mount.read_only:
        raise _InvalidMount("must not set ReadOnly mode when using anonymous volumes")
    _check_subpath(subpath)
    driver = options.driver_config if options else None
    if mount.source:
        check_volume_name(mount.source)
    point = MountPoint(
        MountKind.VOLUME,
        destination,
        volume=mount.source,
        mode="z",
        read_only=mount.read_only,
        copy_up=not (options and options.no_copy),
        anonymous=not mount.source,
        subpath=subpath,
    )
    return WantedMount(
        point,
        volume_labels=options.labels if options else None,
        driver=driver.name if driver else "",
        driver_options=driver.options if driver else None,
    )


def _check_subpath(subpath: str) -> None:
    parts = posixpath.normpath(subpath).split("/") if subpath else []
    if subpath.startswith("/") or parts[:1] == [".."] or "\0" in subpath:
        raise _InvalidMount("subpath must be a relative path within the volume")


def _parse_tmpfs_mount(mount: Mount, destination: str) -> WantedMount:
    if mount.source:
        raise _InvalidMount("field Source must not be specified")
    words = ["ro"] if mount.read_only else []
    if options := mount.tmpfs_options:
        if options.size_bytes < 0:
            raise _InvalidMount("the size must not be negative")
        if options.size_bytes:
            words.append(f"size={options.size_bytes}")
        if options.mode:
            words.append(f"mode={options.mode:o}")
        for pair in options.options or ():
            if not 1 <= len(pair) <= 2:
                raise _InvalidMount("invalid option array length")
            if pair not in (["exec"], ["noexec"]):
                raise _InvalidMount(f"invalid option: {pair[0]}")
            words += pair
    point = MountPoint(MountKind.TMPFS, destination, read_only=mount.read_only, copy_up=False, tmpfs_options=tuple(words))
    return WantedMount(point)


def _parse_bind_mount(mount: Mount, destination: str) -> WantedMount:
    if not mount.source:
        raise _InvalidMount("field Source must not be empty")
    options = mount.bind_options or BindOptions()
    if options.propagation and options.propagation not in _PROPAGATION:
        raise _InvalidMount(f"invalid propagation mode: {options.propagation}")
    if not mount.source.startswith("/"):
        raise _InvalidMount(f"invalid mount path: '{mount.source}' mount path must be absolute")
    point = MountPoint(
        MountKind.BIND,
        destination,
        source=posixpath.normpath(mount.source),
        read_only=mount.read_only,
        propagation=options.propagation or "rprivate",
        non_recursive=options.non_recursive,
        flat_read_only=options.read_only_non_recursive and not options.read_only_force_recursive,
        create_source=options.create_mountpoint,
        copy_up=False,
    )
    return WantedMount(point, default_propagation=not options.propagation)


def _parse_image_mount(mount: Mount, destination: str) -> WantedMount:
    if not mount.source:
        raise _InvalidMount("field Source must not be empty")
    subpath = mount.image_options.subpath if mount.image_options else ""
    _check_subpath(subpath)
    point = MountPoint(
        MountKind.IMAGE,
        destination,
        image=mount.source,
        read_only=True,
        propagation="rprivate",
        subpath=subpath,
        copy_up=False,
    )
    return WantedMount(point)


_PARSERS = {
    "bind": _parse_bind_mount,
    "volume": _parse_volume_mount,
    "tmpfs": _parse_tmpfs_mount,
    "image": _parse_image_mount,
}


def parse_tmpfs(path: str, options: str) -> WantedMount:
    """``--tmpfs destination[:options]``; the options of mount(8) that tmpfs knows."""
    destination = clean_destination(path)
    words = [word for word in options.split(",") if word]
    for word in words:
        name, equals, _ = word.partition("=")
        if "\0" in word or (equals and name not in _TMPFS_VALUES) or (not equals and word not in _TMPFS_FLAGS):
            raise InvalidParameter(f'invalid tmpfs option "{name}"')
    point = MountPoint(
        MountKind.TMPFS,
        destination,
        read_only="ro" in words,
        copy_up=False,
        tmpfs_options=tuple(word for word in words if word not in _WITHOUT_EFFECT),
        listed=False,
    )
    return WantedMount(point)


def inherits_read_only(mode: str) -> bool:
    """Whether the mode of ``--volumes-from container:mode`` makes everything read-only; raises InvalidParameter."""
    words = mode.split(",") if mode else []
    groups = [next((group for group in _INHERITED_MODES if word in group), None) for word in words]
    if None in groups or len(set(groups)) < len(groups):
        raise InvalidParameter(f"invalid mode: {mode}")
    return "ro" in words


def inherited_mounts(points: Iterable[MountPoint], *, read_only: bool) -> list[MountPoint]:
    """The mounts that ``--volumes-from`` takes over; they keep their destination and volume."""
    return [
        replace(point, read_only=point.read_only or read_only, mode="", copy_up=False)
        for point in points
        if point.kind is not MountKind.TMPFS
    ]


def check_source(path: str) -> None:
    """Raise InvalidParameter unless a bind's source is there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            return  # into nothing: the start says so
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {path}') from None
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise InvalidParameter(f'invalid mount config for type "bind": stat {path}: {reason}') from None

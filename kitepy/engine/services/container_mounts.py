"""Reads the forms in which a user asks for mounts (``-v``, ``--mount``, ``--tmpfs``, VOLUME) into one list; pure.

Creating directories and volumes is for the containers service.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kitepy.engine.model.container import MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, HostConfig, Mount
from kitepy.engine.model.errors import InvalidParameter, Unsupported

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_LABELS = frozenset({"z", "Z"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated"})
_TMPFS_FLAGS = frozenset(
    {"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime", "relatime"}
    | {"norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime"}
)
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})


@dataclass(frozen=True)
class WantedMount:
    """A mount point, and what must be done before it can be used."""

    point: MountPoint
    create_source: bool = False
    """Make the host directory when it is missing (``-v`` does, ``--mount`` doesn't)."""
    volume_labels: Mapping[str, str] | None = None


def wanted_mounts(config: ContainerConfig, host: HostConfig, inherited: Iterable[MountPoint] = ()) -> list[WantedMount]:
    """All mounts by destination: binds and mounts first, then ``--volumes-from``, then volumes nobody gave a source for.

    Raises InvalidParameter for malformed or duplicate ones.
    """
    chosen: dict[str, WantedMount] = {}
    for spec in host.binds or ():
        _claim(chosen, parse_bind(spec))
    for mount in host.mounts or ():
        _claim(chosen, parse_mount(mount))
    for destination, options in (host.tmpfs or {}).items():
        _claim(chosen, parse_tmpfs(destination, options))
    for point in inherited:
        chosen.setdefault(point.destination, WantedMount(point))
    for path in config.volumes or ():
        destination = clean_destination(path, path)
        if destination not in chosen:
            chosen[destination] = WantedMount(MountPoint(MountKind.VOLUME, destination, anonymous=True))
    return sorted(chosen.values(), key=lambda wanted: wanted.point.destination.count("/"))


def _claim(chosen: dict[str, WantedMount], wanted: WantedMount) -> None:
    if wanted.point.destination in chosen:
        raise InvalidParameter(f"Duplicate mount point: {wanted.point.destination}")
    chosen[wanted.point.destination] = wanted


def clean_destination(path: str, spec: str) -> str:
    """An absolute, normalised path inside the container; never its root."""
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid volume specification: '{spec}': mount path must be absolute")
    if "\0" in path:
        raise InvalidParameter("invalid volume specification: a path can't contain a NUL character")
    destination = posixpath.normpath("/" + path.lstrip("/"))
    if destination == "/":
        raise InvalidParameter(f"invalid volume specification: '{spec}': destination can't be '/'")
    return destination


def parse_bind(spec: str) -> WantedMount:
    """``[source:]destination[:options]``: a host path, a volume's name, or an anonymous volume."""
    if "\0" in spec:
        raise InvalidParameter("invalid volume specification: a path can't contain a NUL character")
    parts = spec.split(":")
    if len(parts) == 1:
        return WantedMount(MountPoint(MountKind.VOLUME, clean_destination(parts[0], spec), anonymous=True))
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise InvalidParameter(f"invalid volume specification: '{spec}'")
    source, destination = parts[0], clean_destination(parts[1], spec)
    mode = parts[2] if len(parts) == 3 else ""
    read_only, propagation, copy_up = _parse_mode(mode, spec, is_bind=source.startswith("/"))
    if source.startswith("/"):
        point = MountPoint(
            MountKind.BIND,
            destination,
            source=posixpath.normpath(source),
            mode=mode,
            read_only=read_only,
            propagation=propagation or "rprivate",
            copy_up=False,
        )
        return WantedMount(point, create_source=True)
    if not VOLUME_NAME.fullmatch(source):
        raise InvalidParameter(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            f'"{VOLUME_NAME.pattern}" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return WantedMount(
        MountPoint(MountKind.VOLUME, destination, volume=source, mode=mode or "z", read_only=read_only, copy_up=copy_up)
    )


def _parse_mode(mode: str, spec: str, *, is_bind: bool) -> tuple[bool, str, bool]:
    read_only, propagation, copy_up = False, "", True
    seen: set[str] = set()
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            group, read_only = "access", word == "ro"
        elif word in _PROPAGATION and is_bind:
            group, propagation = "propagation", word
        elif word == "nocopy" and not is_bind:
            group, copy_up = "copy", False
        elif word in _LABELS:
            group = "label"
        elif word in _CONSISTENCY and is_bind:
            group = "consistency"
        else:
            raise InvalidParameter(f"invalid mode: {mode}: in volume specification '{spec}'")
        if group in seen:
            raise InvalidParameter(f"invalid mode: {mode}: in volume specification '{spec}'")
        seen.add(group)
    return read_only, propagation, copy_up


def parse_mount(mount: Mount) -> WantedMount:
    """The long form; checks that options belong to the type."""

    def invalid(reason: str) -> InvalidParameter:
        return InvalidParameter(f'invalid mount config for type "{mount.type}": {reason}')

    if not mount.target:
        raise invalid("field Target must not be empty")
    destination = clean_destination(mount.target, mount.target)
    if mount.type == "bind":
        return _parse_bind_mount(mount, destination)
    if mount.type == "volume":
        options = mount.volume_options
        if mount.bind_options or mount.tmpfs_options:
            raise invalid("options of another type were given")
        if options and options.driver_config and options.driver_config.name not in ("", "local"):
            raise Unsupported(f"The volume driver '{options.driver_config.name}' is not supported by this version of Kitepy")
        if options and options.driver_config and options.driver_config.options:
            raise Unsupported("Options of the local volume driver are not supported by this version of Kitepy")
        if options and options.subpath:
            raise Unsupported("Mounting a part of a volume (volume-subpath) is not supported by this version of Kitepy")
        if mount.source and not VOLUME_NAME.fullmatch(mount.source):
            raise invalid(f"volume name '{mount.source}' must match {VOLUME_NAME.pattern}")
        point = MountPoint(
            MountKind.VOLUME,
            destination,
            volume=mount.source,
            mode="z",
            read_only=mount.read_only,
            copy_up=not (options and options.no_copy),
            anonymous=not mount.source,
        )
        return WantedMount(point, volume_labels=options.labels if options else None)
    if mount.type == "tmpfs":
        if mount.source:
            raise invalid("field Source must not be specified")
        words = ["ro"] if mount.read_only else []
        if options_given := mount.tmpfs_options:
            if options_given.size_bytes < 0:
                raise invalid("the size must not be negative")
            if options_given.size_bytes:
                words.append(f"size={options_given.size_bytes}")
            if options_given.mode:
                words.append(f"mode={options_given.mode:o}")
            words += ["=".join(pair) for pair in options_given.options or ()]
        return parse_tmpfs(destination, ",".join(words))
    if mount.type in ("image", "cluster", "npipe"):
        raise Unsupported(f"Mounts of type {mount.type} are not supported by this version of Kitepy")
    raise InvalidParameter(f'invalid mount config for type "{mount.type}": mount type unknown: "{mount.type}"')


def _parse_bind_mount(mount: Mount, destination: str) -> WantedMount:
    if not mount.source:
        raise InvalidParameter('invalid mount config for type "bind": field Source must not be empty')
    if "\0" in mount.source:
        raise InvalidParameter('invalid mount config for type "bind": a path can\'t contain a NUL character')
    if not mount.source.startswith("/"):
        raise InvalidParameter(
            f"invalid mount config for type \"bind\": invalid mount path: '{mount.source}' mount path must be absolute"
        )
    options = mount.bind_options
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATION:
        raise InvalidParameter(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    if options and (options.read_only_non_recursive or options.read_only_force_recursive):
        raise Unsupported("Choosing how far a bind mount is read-only is not supported by this version of Kitepy")
    point = MountPoint(
        MountKind.BIND,
        destination,
        source=posixpath.normpath(mount.source),
        read_only=mount.read_only,
        propagation=propagation or "rprivate",
        non_recursive=bool(options and options.non_recursive),
        copy_up=False,
    )
    return WantedMount(point, create_source=bool(options and options.create_mountpoint))


def parse_tmpfs(path: str, options: str) -> WantedMount:
    """``--tmpfs destination[:options]``; the options of mount(8) that tmpfs knows."""
    destination = clean_destination(path, path)
    words = [word for word in options.split(",") if word]
    for word in words:
        name, equals, _ = word.partition("=")
        if "\0" in word or (equals and name not in _TMPFS_VALUES) or (not equals and word not in _TMPFS_FLAGS):
            raise InvalidParameter(f"invalid tmpfs option ['{word}']")
    return WantedMount(
        MountPoint(MountKind.TMPFS, destination, mode=options, read_only="ro" in words, copy_up=False, tmpfs_options=tuple(words))
    )


def inherited_mounts(points: Iterable[MountPoint], mode: str) -> list[MountPoint]:
    """The mounts that ``--volumes-from container[:ro|rw]`` takes over; they keep their destination and volume."""
    taken = []
    for point in points:
        if point.kind is MountKind.TMPFS:
            continue
        read_only = point.read_only or mode == "ro"
        taken.append(replace(point, read_only=read_only, copy_up=False))
    return taken

"""Volumes as the app lists them, who uses them, the files in one, and long copies in or out of one."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kitepy.gui.models.container import Container
from kitepy.gui.models.transfer import Transfer

_ANONYMOUS = re.compile(r"[0-9a-f]{64}$")
_ANONYMOUS_LABEL = "com.docker.volume.anonymous"
# What the engine accepts (RestrictedNamePattern of the Engine API).
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+$")


@dataclass(frozen=True)
class Volume:
    name: str
    driver: str = "local"
    created_at: str = ""
    mountpoint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_anonymous(self) -> bool:
        """Made for a container that gave it no name."""
        return _ANONYMOUS_LABEL in self.labels or bool(_ANONYMOUS.match(self.name))

    @property
    def title(self) -> str:
        return f"anonymous {self.name[:12]}" if self.is_anonymous else self.name

    @property
    def own_labels(self) -> Mapping[str, str]:
        """Without the one that only says that it is anonymous."""
        return {key: value for key, value in self.labels.items() if key != _ANONYMOUS_LABEL}


@dataclass(frozen=True)
class VolumeUser:
    container: Container
    destination: str
    read_only: bool


@dataclass(frozen=True)
class VolumeRow:
    volume: Volume
    users: tuple[VolumeUser, ...] = ()
    size_bytes: int | None = None
    """None while it hasn't been measured."""

    @property
    def alive(self) -> bool:
        """A running container uses it."""
        return any(user.container.status.alive for user in self.users)

    @property
    def state(self) -> str:
        """Idle: only containers that don't run have it."""
        return "In use" if self.alive else "Idle" if self.users else "Unused"

    @property
    def used_by(self) -> str:
        """The names of its users, for one line."""
        return ", ".join(dict.fromkeys(user.container.name for user in self.users))


def volume_rows(
    volumes: Iterable[Volume], containers: Iterable[Container], sizes: Mapping[str, int], query: str = ""
) -> tuple[VolumeRow, ...]:
    """Named ones first, by name; `query` looks at names, users, drivers and labels, all its words must match."""
    users: dict[str, list[VolumeUser]] = {}
    for container in sorted(containers, key=lambda container: container.name.lower()):
        for mount in container.mounts:
            if mount.kind == "volume":
                users.setdefault(mount.source, []).append(VolumeUser(container, mount.destination, mount.read_only))
    rows = [VolumeRow(volume, tuple(users.get(volume.name, ())), sizes.get(volume.name)) for volume in volumes]
    rows.sort(key=lambda row: (row.volume.is_anonymous, row.volume.title.lower()))
    words = query.lower().split()
    return tuple(row for row in rows if all(word in _text_of(row) for word in words))


def _text_of(row: VolumeRow) -> str:
    labels = " ".join(f"{key}={value}" for key, value in row.volume.labels.items())
    return f"{row.volume.title} {row.volume.name} {row.used_by} {row.state} {row.volume.driver} {labels}".lower()


def unused(rows: Iterable[VolumeRow], *, named: bool) -> tuple[VolumeRow, ...]:
    """What a prune would take: volumes of no container; those with a name only when asked for."""
    return tuple(row for row in rows if not row.users and (named or row.volume.is_anonymous))


def trouble_with_name(name: str, taken: Iterable[str]) -> str:
    """Why a new volume can't be called that; an empty name lets the engine choose one."""
    if name and not _NAME.match(name):
        return "At least two letters, digits, or . _ - after the first."
    return f"There is a volume {name} already." if name in set(taken) else ""


def parse_pairs(text: str) -> dict[str, str]:
    """`key=value` a line; raises ValueError with the line that is none."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if key and not equals and line.strip():
            pairs[key] = ""
        elif key:
            pairs[key.strip()] = value.strip()
        elif equals:
            raise ValueError(line)
    return pairs


def volume_name_from_file(name: str) -> str:
    """A name for the volume that a backup is restored into: `data-2026-11-24.tar.gz` gives `data`."""
    stem = re.sub(r"(\.tar)?(\.(gz|bz2|xz|zst))?$|\.(tgz|txz|tbz2?)$", "", name)
    stem = re.sub(r"[-_.]?\d{4}-?\d{2}-?\d{2}([-_T]\d{2,6})?$", "", stem)
    stem = re.sub(r"[^a-zA-Z0-9_.-]+", "-", stem).strip("-._")
    return stem if len(stem) > 1 else "restored"


# Files


@dataclass(frozen=True)
class FileEntry:
    name: str
    kind: str
    """file, directory, symlink, fifo, socket, character or block"""
    size_bytes: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified_at: str = ""
    link_target: str = ""
    change: str = ""
    """In an image: what its layer does to it (added, changed, removed or none)."""
    layer: int = 0

    @property
    def is_folder(self) -> bool:
        return self.kind == "directory"

    @property
    def can_open(self) -> bool:
        """What a layer has removed isn't there to be looked into."""
        return self.is_folder and self.change != "removed"


@dataclass(frozen=True)
class Folder:
    """One level of a tree; `error` says why it couldn't be read."""

    entries: tuple[FileEntry, ...] = ()
    truncated: bool = False
    error: str = ""
    following: str = ""
    """By what the engine gives the next ones, where it gives them by the page."""


PREVIEW_LIMIT_BYTES = 128 * 1024


@dataclass(frozen=True)
class FilePreview:
    """The beginning of a file; `text` is None for what isn't text."""

    path: str
    text: str | None = None
    truncated: bool = False
    note: str = ""


def preview_of(path: str, content: bytes, size_bytes: int) -> FilePreview:
    """Text is what is valid UTF-8 without NUL; a character that the limit has cut is left out."""
    truncated = size_bytes > len(content)
    if b"\0" in content:
        return FilePreview(path, note="This isn't text.")
    for cut in range(4 if truncated else 1):
        try:
            text = content[: len(content) - cut].decode()
        except UnicodeDecodeError:
            continue
        return FilePreview(path, text, truncated)
    return FilePreview(path, note="This isn't text in UTF-8.")


@dataclass(frozen=True)
class Browsing:
    """The files of the volume in sight, as far as they were asked for."""

    volume: str = ""
    folders: Mapping[str, Folder] = field(default_factory=dict)
    """By path; the root is `/`."""
    preview: FilePreview | None = None


def with_folder(browsing: Browsing, path: str, folder: Folder) -> Browsing:
    return replace(browsing, folders={**browsing.folders, path: folder})


# Copies


class JobTopic(enum.Enum):
    """On which page a job is shown."""

    VOLUME = "volume"
    IMAGE = "image"


class JobPhase(enum.Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """A copy: a backup, an image that is saved or pushed. `total_bytes` is 0 while it isn't known."""

    id: str
    title: str
    subject: str
    """The volume's name or the image's id; may be empty."""
    phase: JobPhase = JobPhase.RUNNING
    done_bytes: int = 0
    total_bytes: int = 0
    note: str = ""
    topic: JobTopic = JobTopic.VOLUME
    transfer: Transfer | None = None
    """Of a push: its layers."""
    log_in: str = ""
    """The registry that would perhaps let who is logged in do it."""

    @property
    def percent(self) -> int | None:
        """None when it can't be told; never 100 before the end, since a total may be an estimate."""
        if self.phase is JobPhase.DONE:
            return 100
        if self.transfer is not None:
            return self.transfer.percent
        return min(99, self.done_bytes * 100 // self.total_bytes) if self.total_bytes > 0 else None


@dataclass(frozen=True)
class RestorePlan:
    """What a restore is to do: `create` makes the volume first."""

    volume: str
    create: bool

"""Values that services hand to the runtime: what to start, where its root file system is, where its output goes.

The document that describes the process itself is an OCI runtime-spec 1.2 ``config.json`` in the bundle directory; the
values here are what the specification leaves to the caller (root file system mounts, logs, descriptors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class OverlayFlavour(Enum):
    """How layers are joined, which decides how the marks of removed files are written, too."""

    TRUSTED = "trusted"
    """By the kernel, with marks in ``trusted.overlay.*``, which only root of the machine may write."""
    USER = "user"
    """By the kernel, with marks in ``user.overlay.*`` (mount option ``userxattr``): for root of a user namespace."""
    FUSE = "fuse"
    """By fuse-overlayfs(1), for root of a user namespace whose kernel doesn't let it. Layers look as with ``USER``; what is
    written on top has marks of that program's own, so it is packed and unpacked to become a layer."""

    @property
    def opaque_xattr(self) -> str:
        """The attribute of a directory that hides what layers below have under its name."""
        return "trusted.overlay.opaque" if self is OverlayFlavour.TRUSTED else "user.overlay.opaque"

    @property
    def user_xattrs(self) -> bool:
        """Whether the kernel has to be told of the marks' place."""
        return self is OverlayFlavour.USER


@dataclass(frozen=True)
class OverlayRoot:
    """An overlay mount, described relative to one directory so that 128 layers fit into one page of mount options.

    The mount is made inside the process's own mount namespace, with ``base`` as working directory: it never appears
    on the host and ends with the namespace, so a crash leaves nothing to unmount.
    """

    base: Path
    """Directory that the other paths are relative to (the engine's data root)."""
    lower: tuple[str, ...]
    """Layer directories, topmost first."""
    upper: str | None = None
    """Writable directory; None mounts the lower layers read-only."""
    work: str | None = None
    """Overlay's work directory, on the same file system as ``upper``."""
    volatile: bool = False
    """Skip syncing: for mounts whose content is thrown away or hashed at once (``--rm``, build steps)."""
    flavour: OverlayFlavour = OverlayFlavour.TRUSTED


@dataclass(frozen=True)
class LogTarget:
    """Where a monitor writes the container's output, if ``path`` says so: one JSON object a line, as dockerd writes it.

    ``max_size_bytes`` 0 means unbounded; ``max_files`` counts the live file, rotated ones get the suffix ``.1``, ``.2`` …, with
    ``compress`` followed by ``.gz``. ``attributes`` are written with each line.
    """

    path: Path | None = None
    max_size_bytes: int = 0
    max_files: int = 1
    compress: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LaunchRequest:
    """All that is needed to start one container."""

    container_id: str
    bundle: Path
    """Directory with ``config.json``, whose ``root.path`` is where ``rootfs`` gets mounted inside the mount namespace."""
    state_dir: Path
    """Directory below the exec root that the monitor owns: ``monitor.sock``, ``exit.json``."""
    rootfs: OverlayRoot | None
    """None when ``root.path`` of the bundle is a plain directory that is used as it is."""
    log: LogTarget
    netns_fd: int | None = None
    """A network namespace to join; None follows the bundle's ``linux.namespaces``."""
    seccomp_program: bytes = b""
    """Compiled BPF filter (array of ``struct sock_filter``); empty means unconfined."""
    open_stdin: bool = False
    stdin_once: bool = False
    init: bool = False
    """Whether process 1 is an init that starts the bundle's process."""


class ExitReason(Enum):
    """Why there is an exit status."""

    EXITED = "exited"
    """The process ended by itself or by a signal."""
    LOST = "lost"
    """The monitor vanished (power cut, kill -9 of the monitor): the true status is unknown."""


@dataclass(frozen=True)
class ExitStatus:
    """How a container's process 1 (or an exec's process) ended.

    ``code`` follows the shell: 0–255, or 128 + signal number. Times are nanoseconds since the epoch.
    """

    code: int
    finished_at_ns: int
    oom_killed: bool = False
    reason: ExitReason = ExitReason.EXITED

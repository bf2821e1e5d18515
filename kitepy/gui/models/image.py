"""An image as the app lists it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Image:
    id: str
    tags: tuple[str, ...] = ()
    size_bytes: int = 0
    created_s: float = 0.0
    containers: int = 0
    shared_bytes: int | None = None
    """What other images have as well; None when the engine doesn't tell."""
    digests: tuple[str, ...] = ()
    """`repository@digest`: as what registries know it."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def own_bytes(self) -> int | None:
        """What goes with it."""
        return None if self.shared_bytes is None else max(0, self.size_bytes - self.shared_bytes)

    @property
    def short_id(self) -> str:
        return self.id.removeprefix("sha256:")[:12]

    @property
    def reference(self) -> str:
        """What to run it by: its first tag, or its id."""
        return self.tags[0] if self.tags else self.id

    @property
    def title(self) -> str:
        """Name without registry noise and without `:latest`."""
        return self.tags[0].removesuffix(":latest") if self.tags else f"untagged {self.short_id}"


def name_from_reference(reference: str) -> str:
    """A container name for an image: `ghcr.io/team/web:1.2` gives `web`."""
    if reference.startswith("sha256:"):
        return f"container-{reference.removeprefix('sha256:')[:6]}"
    last = reference.rsplit("/", 1)[-1]
    return container_name(last.split("@", 1)[0].split(":", 1)[0])


def container_name(text: str) -> str:
    """The nearest name that the engine accepts: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`."""
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", text).strip("-._")
    return name if len(name) > 1 else f"{name}app" if name else "app"


_ARCHIVE = re.compile(r"\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2?|txz)$", re.IGNORECASE)


def looks_like_archive(name: str) -> bool:
    """Whether a file is a tar archive by its name."""
    return bool(_ARCHIVE.search(name))


def name_from_archive(name: str) -> str:
    """A repository name for the image that is made of an archive: `rootfs-2026.tar.gz` gives `rootfs-2026`."""
    return image_name(_ARCHIVE.sub("", name))


def archive_name(image: Image) -> str:
    """What to call the file an image is saved to: `team/reports:1.4` gives `reports-1.4.tar`."""
    last = image.title.rsplit("/", 1)[-1] if image.tags else image.short_id
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", last).strip("-.") + ".tar"


def image_name(text: str) -> str:
    """The nearest repository name for a folder name: lower case, digits, single separators."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name or "app"


_REFERENCE = re.compile(
    r"""(?:(?:[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?  # registry
        [a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*                    # path
        (?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*
        (?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$                   # tag
    """,
    re.VERBOSE,
)


def is_image_reference(text: str) -> bool:
    """Whether the engine would take this as the name of a new image (distribution's reference grammar)."""
    return bool(_REFERENCE.match(text)) and len(text) <= 255


def readable_size(size_bytes: int) -> str:
    """Decimal units, as `docker images` prints them."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def readable_age(seconds: float) -> str:
    """`3 minutes ago` and the like."""
    if seconds < 45:
        return "just now"
    for limit, unit_s, word in (
        (3600, 60, "minute"),
        (86400, 3600, "hour"),
        (86400 * 60, 86400, "day"),
        (86400 * 730, 86400 * 30, "month"),
        (float("inf"), 86400 * 365, "year"),
    ):
        if seconds < limit:
            count = max(1, int(seconds / unit_s))
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return ""


def readable_duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s"

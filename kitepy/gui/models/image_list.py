"""Images with who uses them, as rows; what goes with one that is removed, and what a prune would take. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kitepy.gui.models.container import Container
from kitepy.gui.models.image import Image, readable_size
from kitepy.gui.models.reference import parse_reference


class ImageFilter(enum.Enum):
    """Value: what it is called."""

    ALL = "All images"
    USED = "In use"
    UNUSED = "Not in use"
    UNTAGGED = "Untagged"


@dataclass(frozen=True)
class ImageRow:
    image: Image
    users: tuple[Container, ...] = ()

    @property
    def alive(self) -> bool:
        """A running container has it."""
        return any(container.status.alive for container in self.users)

    @property
    def state(self) -> str:
        return "In use" if self.users else "Not in use"

    @property
    def used_by(self) -> str:
        return ", ".join(container.name for container in self.users)

    @property
    def title(self) -> str:
        """Its first name, and how many more it has."""
        more = len(self.image.tags) - 1
        return f"{self.image.title}  +{more}" if more > 0 else self.image.title


def image_rows(
    images: Iterable[Image], containers: Iterable[Container], query: str = "", kind: ImageFilter = ImageFilter.ALL
) -> tuple[ImageRow, ...]:
    """The newest first; `query` looks at names, ids, users and labels, all its words must match."""
    by_image: dict[str, list[Container]] = {}
    for container in sorted(containers, key=lambda container: container.name.lower()):
        by_image.setdefault(container.image_id or container.image, []).append(container)
    rows = []
    for image in sorted(images, key=lambda image: image.created_s, reverse=True):
        # An engine that doesn't tell the id tells the name that the container was made by.
        names = {name for tag in image.tags for name in (tag, tag.removesuffix(":latest"))}
        users = [user for key in (image.id, *sorted(names)) for user in by_image.get(key, ())]
        rows.append(ImageRow(image, tuple(users)))
    words = query.lower().split()
    return tuple(row for row in rows if _is_of(row, kind) and all(word in _text_of(row) for word in words))


def _is_of(row: ImageRow, kind: ImageFilter) -> bool:
    match kind:
        case ImageFilter.USED:
            return bool(row.users)
        case ImageFilter.UNUSED:
            return not row.users
        case ImageFilter.UNTAGGED:
            return not row.image.tags
        case _:
            return True


def _text_of(row: ImageRow) -> str:
    image = row.image
    labels = " ".join(f"{key}={value}" for key, value in image.labels.items())
    return f"{' '.join(image.tags)} {image.title} {image.id} {row.used_by} {row.state} {labels}".lower()


def total_bytes(rows: Sequence[ImageRow]) -> int:
    """What they take together: what is shared counts once, as far as that can be told."""
    # Nobody tells which ones share what: the largest shared part is there at least once.
    known = [row.image for row in rows if row.image.shared_bytes is not None]
    if len(known) < len(rows):
        return sum(row.image.size_bytes for row in rows)
    return sum(image.own_bytes or 0 for image in known) + max((image.shared_bytes or 0 for image in known), default=0)


def where_from(image: Image) -> str:
    """The repository it can be had from again; empty for one that was made or loaded here."""
    return image.digests[0].partition("@")[0] if image.digests else ""


def loss_of_removal(row: ImageRow) -> str:
    """What is gone afterwards, said before it is done."""
    image = row.image
    names = f"Its names {', '.join(image.tags)} go with it. " if len(image.tags) > 1 else ""
    if image.own_bytes is None:
        freed = f"It has {readable_size(image.size_bytes)}. "
    elif image.shared_bytes:
        freed = f"{readable_size(image.own_bytes)} are freed; {readable_size(image.shared_bytes)} stay for other images. "
    else:
        freed = f"{readable_size(image.own_bytes)} are freed. "
    source = where_from(image)
    again = (
        f"It can be pulled again from {source} while that has it."
        if source
        else "It isn't known to any registry: it comes back only by building it again, or from a file that you saved."
    )
    return f"{names}{freed}{again}"


# Prune


@dataclass(frozen=True)
class PruneCandidate:
    """`layers`: bytes by layer, and how many images have it; empty when the engine doesn't tell."""

    row: ImageRow
    layers: Mapping[str, tuple[int, int]]


def unused(rows: Iterable[ImageRow], *, tagged: bool) -> tuple[ImageRow, ...]:
    """What a prune would take: images of no container; those with a name only when asked for."""
    return tuple(row for row in rows if not row.users and (tagged or not row.image.tags))


def freed_bytes(chosen: Iterable[PruneCandidate]) -> int:
    """What goes when all of these go: a layer goes with the last image that has it."""
    sizes: dict[str, int] = {}
    left: dict[str, int] = {}
    total = 0
    for candidate in chosen:
        if not candidate.layers:
            total += candidate.row.image.own_bytes or 0
        for layer, (size, images) in candidate.layers.items():
            sizes[layer] = size
            left[layer] = left.get(layer, images) - 1
    return total + sum(size for layer, size in sizes.items() if left[layer] <= 0)


# Names


def trouble_with_tag(text: str, image: Image) -> str:
    """Why an image can't be called that; an empty text for what is fine."""
    reference = parse_reference(text)
    if reference is None or reference.digest:
        return "Write a name like team/app:1.0: lower-case letters, digits and . _ - / between them, then a tag."
    if reference.pulled in image.tags:
        return "It has this name already."
    return ""


def holder_of(images: Iterable[Image], text: str) -> Image | None:
    """The image that has a name now."""
    reference = parse_reference(text)
    return next((image for image in images if reference is not None and reference.pulled in image.tags), None)

"""What was found in registries: results of a search, the tags of one repository, and what a pull would bring. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kitepy.gui.models.image import Image
from kitepy.gui.models.reference import DOCKER_HUB, Reference, parse_reference
from kitepy.gui.models.trouble import Cause, Trouble

SEARCH_LIMIT = 25
TAGS_A_PAGE = 25


@dataclass(frozen=True)
class Hit:
    """`repository` is as in `Reference`: whole."""

    registry: str
    repository: str
    description: str = ""
    stars: int = 0
    official: bool = False

    @property
    def reference(self) -> Reference:
        return Reference(self.registry, self.repository)

    @property
    def title(self) -> str:
        return self.repository.removeprefix("library/") if self.registry == DOCKER_HUB else self.repository


class SourcePhase(enum.Enum):
    SEARCHING = "searching"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Source:
    """One registry's part of a search."""

    registry: str
    phase: SourcePhase = SourcePhase.SEARCHING
    hits: tuple[Hit, ...] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Search:
    """`query` is what was typed; without one there is no search."""

    query: str = ""
    sources: tuple[Source, ...] = ()

    @property
    def searching(self) -> bool:
        return any(source.phase is SourcePhase.SEARCHING for source in self.sources)

    @property
    def offline(self) -> bool:
        """Every registry that was asked can't be reached, and nothing speaks against it being this machine's network."""
        failed = [source for source in self.sources if source.phase is SourcePhase.FAILED]
        return bool(failed) and len(failed) == len(self.sources) and any(_is_offline(source) for source in failed)

    @property
    def hits(self) -> tuple[Hit, ...]:
        """All of them, the likeliest first."""
        words = self.query.lower().split()
        return tuple(sorted((hit for source in self.sources for hit in source.hits), key=lambda hit: _rank(hit, words)))

    @property
    def exact(self) -> Reference | None:
        """What was typed, when it names one image outright: with a registry, a tag or a digest."""
        parsed = parse_reference(self.query)
        if parsed is None or not (parsed.tag or parsed.digest or parsed.registry != DOCKER_HUB or "/" in self.query):
            return None
        return parsed


def _is_offline(source: Source) -> bool:
    return source.trouble is not None and source.trouble.cause is Cause.NO_NETWORK


def _rank(hit: Hit, words: list[str]) -> tuple[int, bool, int, str]:
    name = hit.reference.title.lower()
    if [name] == words or hit.title.lower() in words:
        closeness = 0
    elif words and name.startswith(words[0]):
        closeness = 1
    else:
        closeness = 2
    return (closeness if hit.official or hit.registry != DOCKER_HUB else closeness + 1, not hit.official, -hit.stars, hit.title)


def answered(search: Search, query: str, registry: str, hits: Iterable[Hit] = (), trouble: Trouble | None = None) -> Search:
    """The search after one registry's answer; one to an older question changes nothing."""
    if search.query != query:
        return search
    phase = SourcePhase.FAILED if trouble else SourcePhase.DONE
    sources = tuple(
        Source(registry, phase, tuple(hits), trouble) if source.registry == registry else source for source in search.sources
    )
    return replace(search, sources=sources)


def local_hits(images: Iterable[Image], query: str) -> tuple[tuple[Image, str], ...]:
    """Images of this machine with a name that has all the words, each with that name; newest first."""
    words = query.lower().split()
    found = []
    for image in sorted(images, key=lambda image: image.created_s, reverse=True):
        tag = next((tag for tag in image.tags if all(word in tag.lower() for word in words)), "")
        if tag:
            found.append((image, tag))
    return tuple(found)


# One repository


@dataclass(frozen=True)
class Tag:
    """What isn't known is empty or 0: a list of tags tells only names, each one's manifest the rest."""

    name: str
    digest: str = ""
    size_bytes: int = 0
    created_at: str = ""
    platforms: tuple[str, ...] = ()
    note: str = ""
    """Why nothing more is known of it."""

    @property
    def known(self) -> bool:
        return bool(self.size_bytes or self.note)


@dataclass(frozen=True)
class TagsPage:
    tags: tuple[Tag, ...]
    next: str = ""
    """Where the next page begins; empty after the last one."""


@dataclass(frozen=True)
class LayerToFetch:
    digest: str
    size_bytes: int
    here: bool


@dataclass(frozen=True)
class ImageConfig:
    """What of an image's configuration decides how it runs."""

    user: str = ""
    exposed: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalImage:
    """The image that has the same name here."""

    id: str
    created_at: str = ""
    size_bytes: int = 0
    config: ImageConfig = ImageConfig()
    digests: tuple[str, ...] = ()
    """Of manifests and indexes that it was pulled by."""


@dataclass(frozen=True)
class PullPreview:
    """What a pull of `reference` would bring. `image_id` is the digest of its configuration."""

    reference: str
    digest: str = ""
    image_id: str = ""
    created_at: str = ""
    platform: str = ""
    platforms: tuple[str, ...] = ()
    layers: tuple[LayerToFetch, ...] = ()
    size_bytes: int = 0
    fetch_bytes: int = 0
    config: ImageConfig = ImageConfig()
    local: LocalImage | None = None

    @property
    def is_here(self) -> bool:
        """The image of that name here is this very one."""
        return self.local is not None and (self.local.id == self.image_id or self.digest in self.local.digests)

    @property
    def runs_as_root(self) -> bool:
        return self.config.user.partition(":")[0] in ("", "0", "root")


@dataclass(frozen=True)
class Change:
    """A difference between what is here and what would come; empty texts where one has nothing."""

    what: str
    before: str
    after: str


def changes(before: ImageConfig, after: ImageConfig) -> tuple[Change, ...]:
    """How a newer image of the same name would run otherwise."""
    found = [
        Change(what, old, new)
        for what, old, new in (
            ("User", before.user or "root", after.user or "root"),
            ("Entry point", " ".join(before.entrypoint), " ".join(after.entrypoint)),
            ("Command", " ".join(before.command), " ".join(after.command)),
            ("Folder", before.working_directory or "/", after.working_directory or "/"),
            ("Ports", ", ".join(sorted(before.exposed)), ", ".join(sorted(after.exposed))),
            ("Volumes", ", ".join(sorted(before.volumes)), ", ".join(sorted(after.volumes))),
        )
        if old != new
    ]
    old_variables, new_variables = _variables(before.environment), _variables(after.environment)
    for name in sorted({*old_variables, *new_variables}):
        old, new = old_variables.get(name), new_variables.get(name)
        if old != new:
            found.append(Change(name, "" if old is None else old or "empty", "" if new is None else new or "empty"))
    return tuple(found)


def _variables(environment: Iterable[str]) -> Mapping[str, str]:
    pairs = (entry.partition("=") for entry in environment)
    return {name: value for name, _, value in pairs}


@dataclass(frozen=True)
class RepositoryView:
    """The repository in sight: its tags as far as they were asked for, the one that is chosen, and what it would bring."""

    key: str = ""
    """What it was opened by: the route's key."""
    reference: Reference | None = None
    hit: Hit | None = None
    filter: str = ""
    tags: tuple[Tag, ...] = ()
    next: str = ""
    loading: bool = False
    loaded: bool = False
    trouble: Trouble | None = None
    chosen: str = ""
    """A tag, or a digest."""
    platform: str = ""
    preview: PullPreview | None = None
    preview_trouble: Trouble | None = None

    @property
    def chosen_reference(self) -> Reference | None:
        if self.reference is None or not self.chosen:
            return None
        if self.chosen.startswith("sha256:"):
            return Reference(self.reference.registry, self.reference.repository, digest=self.chosen)
        return self.reference.tagged(self.chosen)


def with_page(view: RepositoryView, page: TagsPage, *, first: bool) -> RepositoryView:
    """After the first page of a list, or a further one."""
    names = set() if first else {tag.name for tag in view.tags}
    fresh = []
    for tag in page.tags:
        if tag.name not in names:
            names.add(tag.name)
            fresh.append(tag)
    tags = tuple(fresh) if first else (*view.tags, *fresh)
    return replace(view, tags=tags, next=page.next, loading=False, loaded=True, trouble=None)


def with_tag(view: RepositoryView, tag: Tag) -> RepositoryView:
    return replace(view, tags=tuple(tag if each.name == tag.name else each for each in view.tags))


def tag_of_preview(name: str, preview: PullPreview) -> Tag:
    return Tag(name, preview.digest, preview.size_bytes, preview.created_at, preview.platforms)


def preferred_tag(tags: Iterable[Tag], wanted: str = "") -> str:
    """Which tag to show first: the wanted one, else `latest`, else the first."""
    names = [tag.name for tag in tags]
    return wanted if wanted in names else "latest" if "latest" in names else names[0] if names else wanted


@dataclass(frozen=True)
class Discover:
    search: Search = Search()
    repository: RepositoryView = field(default_factory=RepositoryView)

"""Names of images taken apart as the engine does it: registry, repository, tag, digest. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"
_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*$")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$"
)


@dataclass(frozen=True)
class Reference:
    """`repository` is whole ("library/nginx" at Docker Hub); `tag` is empty for a name without one and for a digest."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar_repository(self) -> str:
        """The name as people write it: without Docker Hub's host and without its `library/`."""
        if self.registry == DOCKER_HUB:
            return self.repository.removeprefix("library/")
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        if self.digest:
            return f"{self.familiar_repository}@{self.digest}"
        return f"{self.familiar_repository}:{self.tag}" if self.tag else self.familiar_repository

    @property
    def pulled(self) -> str:
        """What a pull of exactly one image names: `latest` where nothing is said."""
        return self.familiar if self.digest or self.tag else f"{self.familiar_repository}:latest"

    @property
    def title(self) -> str:
        """The last part of the name."""
        return self.repository.rpartition("/")[2]

    def tagged(self, tag: str) -> Reference:
        return Reference(self.registry, self.repository, tag)


def is_host(text: str) -> bool:
    """Whether this can be a registry's address: `ghcr.io`, `localhost:5000`, `[::1]:5000`."""
    return bool(_HOST.match(text)) and len(text) <= 255


def is_tag(text: str) -> bool:
    return bool(_TAG.match(text))


def registry_host(text: str) -> str:
    """A registry as the user may write it (with a scheme, a path, or one of Docker Hub's other names), or "" for what is none."""
    text = re.sub(r"^[a-z]+://", "", text.strip(), flags=re.IGNORECASE).partition("/")[0].lower()
    if text in _HUB_NAMES:
        return DOCKER_HUB
    return text if is_host(text) else ""


def parse_reference(text: str) -> Reference | None:
    """None for what isn't a name (distribution's reference grammar)."""
    text, at, digest = text.strip().partition("@")
    if at and not _DIGEST.match(digest):
        return None
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        name, tag = text, ""
    elif not _TAG.match(tag):
        return None
    first, slash, rest = name.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower()):
        if not is_host(first):
            return None
        registry, repository = (DOCKER_HUB if first in _HUB_NAMES else first), rest
    else:
        registry, repository = DOCKER_HUB, name
    if not _REPOSITORY.match(repository) or len(repository) > 255 or _DIGEST.match(f"sha256:{repository}"):
        return None
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, "" if digest else tag, digest)


_COMMAND = re.compile(r"^(?:sudo\s+)?(?:docker|podman|nerdctl)\s+(?:image\s+)?(?:pull|run)\s+", re.IGNORECASE)


def clean_query(text: str) -> str:
    """What is looked for: a pasted `docker pull nginx` means nginx."""
    return _COMMAND.sub("", text.strip()).strip()


def split_query(text: str) -> tuple[str, str]:
    """(registry, words) of what is searched for: `localhost:5000/web` asks one registry, `web` all of them."""
    text = re.sub(r"^https?://", "", text.strip())
    first, slash, rest = text.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost") and is_host(first):
        return registry_host(first), rest
    return "", text

"""Image references: parsing, normalising and the short form people type; knows nothing of what is stored.

Grammar: https://github.com/distribution/reference (the field's de facto standard). ``nginx`` means
``docker.io/library/nginx:latest``; a first component is a registry when it holds a dot, a colon or an upper-case letter,
or is ``localhost``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kitepy.engine.model.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH = 255

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:\.|__|_|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, order=True)
class Reference:
    """A normalised image reference; ``str()`` gives the full form, ``familiar`` the short one."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Repository with its registry, e.g. ``docker.io/library/nginx``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """Repository as people write it, e.g. ``nginx`` or ``localhost:5000/app``."""
        if self.domain == DEFAULT_DOMAIN:
            # A shortening must not become another repository: "library/a/b" is not "a/b", nor is "a.b/c" on Docker Hub.
            for short in (self.path.removeprefix(OFFICIAL_PREFIX), self.path):
                if _split_domain(short) == (self.domain, self.path):
                    return short
        return self.name

    @property
    def familiar(self) -> str:
        """The whole reference as people write it, tag and digest included."""
        return self.familiar_name + self._suffix

    @property
    def is_name_only(self) -> bool:
        """Whether neither tag nor digest was given."""
        return self.tag is None and self.digest is None

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag is not None else "") + (f"@{self.digest}" if self.digest is not None else "")

    def __str__(self) -> str:
        return self.name + self._suffix

    def with_default_tag(self) -> Reference:
        """The same reference, with ``:latest`` when it names neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def with_tag(self, tag: str) -> Reference:
        """The repository with this tag and no digest; an empty tag means ``latest``."""
        return replace(self, tag=check_tag(tag or DEFAULT_TAG), digest=None)


def parse_reference(text: str) -> Reference:
    """Parse and normalise; raises ``InvalidParameter`` worded as Docker's command line has it."""
    if _BARE_ID.fullmatch(text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidParameter("invalid reference format")
    domain, remainder = _split_domain(rest)
    path, colon, tag = remainder.partition(":")
    if path != path.lower() and _PATH.fullmatch(path.lower()):
        raise InvalidParameter(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain) or (colon and not _TAG.fullmatch(tag)):
        raise InvalidParameter("invalid reference format")
    if len(path) > MAX_NAME_LENGTH:
        raise InvalidParameter(f"repository name must not be more than {MAX_NAME_LENGTH} characters")
    return Reference(domain, path, tag if colon else None, check_digest(digest) if at else None)


def check_tag(tag: str) -> str:
    """Return the tag, or raise ``InvalidParameter``."""
    if not _TAG.fullmatch(tag):
        raise InvalidParameter("invalid tag format")
    return tag


def check_digest(digest: str) -> str:
    """Return the digest (``algorithm:hex``), or raise ``InvalidParameter``."""
    algorithm, colon, encoded = digest.partition(":")
    if not colon or not _DIGEST.fullmatch(digest):
        raise InvalidParameter("invalid checksum digest format")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidParameter("invalid checksum digest length")
    if encoded != encoded.lower():
        raise InvalidParameter("invalid checksum digest format")
    return digest


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, remainder = name.partition("/")
    if not slash or not (set(first) & {".", ":"} or first == "localhost" or first != first.lower()):
        first, remainder = DEFAULT_DOMAIN, name
    if first == LEGACY_DEFAULT_DOMAIN:
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return first, remainder

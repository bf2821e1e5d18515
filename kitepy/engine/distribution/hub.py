"""Docker Hub's own API, where it tells more about tags than a registry: sizes, platforms and times, without a manifest each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from kitepy.engine.distribution.redirects import followed, read_short
from kitepy.engine.distribution.transport import Transport
from kitepy.engine.model.errors import SystemFailure

HUB_API = "https://hub.docker.com"
_LONGEST_ANSWER = 8 << 20


@dataclass(frozen=True)
class HubImage:
    """What a tag stands for on one platform."""

    platform: str
    size: int


@dataclass(frozen=True)
class HubTag:
    """A tag and what Docker Hub knows of it."""

    name: str
    digest: str
    updated: str
    """RFC 3339."""
    images: tuple[HubImage, ...]


async def hub_tags(transport: Transport, path: str, *, words: str, page: int, page_size: int) -> tuple[list[HubTag], bool] | None:
    """A page of a public repository's tags, latest first, and whether there are more; None where the API doesn't know it."""
    query = {"page": page, "page_size": page_size, "ordering": "last_updated"} | ({"name": words} if words else {})
    url = f"{HUB_API}/v2/repositories/{quote(path)}/tags?{urlencode(query)}"
    async with followed(transport, "GET", url, {"Accept": "application/json"}) as answer:
        raw = await read_short(answer, _LONGEST_ANSWER)
        if answer.status != 200:
            return None
    return read_tags(raw)


def read_tags(raw: bytes) -> tuple[list[HubTag], bool]:
    """The tags of an answer; raises SystemFailure for what is none."""
    try:
        document = json.loads(raw)
        entries = document["results"]
        return [_tag(entry) for entry in entries], bool(document.get("next"))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise SystemFailure("Docker Hub's answer has no valid tags") from None


def _tag(entry: dict[str, Any]) -> HubTag:
    images = [image for image in entry.get("images") or () if image.get("os") not in (None, "", "unknown")]
    return HubTag(
        str(entry["name"]),
        str(entry.get("digest") or ""),
        str(entry.get("last_updated") or ""),
        tuple(HubImage(_platform(image), int(image.get("size") or 0)) for image in images),
    )


def _platform(image: dict[str, Any]) -> str:
    return "/".join(str(image[key]) for key in ("os", "architecture", "variant") if image.get(key))

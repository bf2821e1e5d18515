"""What is shown of a web page that a container serves: numbers and words only, nothing of it is executed."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Preview:
    """`status` is 0 when nothing answered; then `error` says why."""

    url: str
    status: int = 0
    reason: str = ""
    title: str = ""
    excerpt: str = ""
    content_type: str = ""
    server: str = ""
    latency_ms: float = 0.0
    final_url: str = ""
    error: str = ""

    @property
    def answered(self) -> bool:
        return self.status > 0


_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SILENT = re.compile(r"<(script|style|head|template|noscript)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def title_of(page: str) -> str:
    match = _TITLE.search(page)
    return _squeeze(html.unescape(match.group(1)), 120) if match else ""


def excerpt_of(page: str, content_type: str) -> str:
    """The first words that a reader of the page would see."""
    if "html" in content_type:
        page = html.unescape(_TAG.sub(" ", _SILENT.sub(" ", page)))
    elif not content_type.startswith(("text/", "application/json")):
        return ""
    return _squeeze(page, 240)


def _squeeze(text: str, limit: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"

"""From method and path to a route in constant time; knows nothing of HTTP libraries.

A path is static (``/containers/json``) or has one placeholder after its first segment, which takes any number of segments: image
names contain slashes, and a name that can't exist is answered by the resource's own "No such …". The words after the placeholder
decide: ``/images/a/b/json`` is ``/images/{name}/json`` for ``a/b``. What is Kitepy's own has two segments before it
(``/kitepy/volumes/{name}/files``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from kitepy.engine.server.errors import PageNotFound

Target = TypeVar("Target")

_TEMPLATE = re.compile(r"/(?P<head>(?:kitepy/)?[^/{]+)/\{[a-z]+\}(?P<tail>(?:/[^/{]+){0,2})")


@dataclass(frozen=True)
class Match(Generic[Target]):
    """A route's target, and what the placeholder stands for ("" without one)."""

    target: Target
    argument: str


class Router(Generic[Target]):
    """Routes are added once, then looked up: a few dictionary look-ups each, however many routes there are."""

    def __init__(self) -> None:
        self._static: dict[tuple[str, str], Target] = {}
        self._with_argument: dict[tuple[str, str, str], Target] = {}

    def add(self, method: str, template: str, target: Target) -> None:
        """Register a route; raises ValueError for a template of another shape or a route that exists."""
        if "{" not in template:
            if (method, template) in self._static:
                raise ValueError(f"{method} {template} is registered twice")
            self._static[method, template] = target
            return
        shape = _TEMPLATE.fullmatch(template)
        if shape is None:
            raise ValueError(f"unsupported template {template}")
        key = (method, shape["head"], shape["tail"])
        if key in self._with_argument:
            raise ValueError(f"{method} {template} is registered twice")
        self._with_argument[key] = target

    def resolve(self, method: str, path: str) -> Match[Target]:
        """The route of a request whose path carries no version.

        Raises PageNotFound, also for a path that exists with other methods: Docker makes no difference.
        """
        target = self._static.get((method, path))
        if target is not None:
            return Match(target, "")
        head, slash, rest = path[1:].partition("/")
        if head == "kitepy":
            resource, slash, rest = rest.partition("/")
            head = f"kitepy/{resource}"
        if path.startswith("/") and slash:
            for argument, tail in _readings(rest):
                target = self._with_argument.get((method, head, tail))
                if target is not None:
                    return Match(target, argument)
        raise PageNotFound


def _readings(rest: str) -> Iterator[tuple[str, str]]:
    """What the placeholder and the words after it may be; the last reading takes all for the placeholder."""
    argument, _, last = rest.rpartition("/")
    if argument:
        yield argument, f"/{last}"
        argument, _, last_but_one = argument.rpartition("/")
        if argument:
            yield argument, f"/{last_but_one}/{last}"
    yield rest, ""

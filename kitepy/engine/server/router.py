"""From method and path to a route in constant time; knows nothing of HTTP libraries.

A path is static (``/containers/json``) or has one placeholder after its first segment: ``{id}`` takes one segment,
``{name...}`` any number of them, since image names contain slashes. The words after the placeholder decide:
``/images/a/b/json`` is ``/images/{name...}/json`` for ``a/b``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from kitepy.engine.server.errors import MethodNotAllowed, PageNotFound

Target = TypeVar("Target")

_TEMPLATE = re.compile(r"/(?P<head>[^/{]+)/\{(?P<name>[a-z]+)(?P<greedy>\.\.\.)?\}(?P<tail>(?:/[^/{]+)*)")


@dataclass(frozen=True)
class Match(Generic[Target]):
    """A route's target, and what the placeholder stands for ("" without one)."""

    target: Target
    argument: str


class Router(Generic[Target]):
    """Routes are added once, then looked up: a few dictionary look-ups each, however many routes there are."""

    def __init__(self) -> None:
        self._static: dict[str, dict[str, Target]] = {}
        self._single: dict[tuple[str, str], dict[str, Target]] = {}
        self._greedy: dict[tuple[str, str], dict[str, Target]] = {}
        self._greedy_heads: set[str] = set()

    def add(self, method: str, template: str, target: Target) -> None:
        """Register a route; raises ValueError for a template of another shape or a route that exists."""
        if "{" not in template:
            methods = self._static.setdefault(template, {})
        else:
            shape = _TEMPLATE.fullmatch(template)
            if shape is None:
                raise ValueError(f"unsupported template {template}")
            table = self._greedy if shape["greedy"] else self._single
            methods = table.setdefault((shape["head"], shape["tail"]), {})
            if shape["greedy"]:
                self._greedy_heads.add(shape["head"])
        if method in methods:
            raise ValueError(f"{method} {template} is registered twice")
        methods[method] = target

    def resolve(self, method: str, path: str) -> Match[Target]:
        """The route of a request whose path carries no version; raises PageNotFound or MethodNotAllowed."""
        methods = self._static.get(path)
        argument = ""
        if methods is None or (method not in methods and self._could_be_argument(path)):
            found = self._with_argument(method, path)
            if found is not None:
                methods, argument = found
        if methods is None:
            raise PageNotFound
        target = methods.get(method)
        if target is None and method == "HEAD":
            target = methods.get("GET")
        if target is None:
            raise MethodNotAllowed(method, tuple(sorted(methods)))
        return Match(target, argument)

    def _could_be_argument(self, path: str) -> bool:
        """A static path may also be a name: DELETE /containers/json removes the container named ``json``."""
        return path.count("/") >= 2

    def _with_argument(self, method: str, path: str) -> tuple[dict[str, Target], str] | None:
        head, _, rest = path[1:].partition("/")
        if not rest or not path.startswith("/"):
            return None
        if head in self._greedy_heads:
            return self._with_greedy_argument(method, head, rest)
        argument, slash, tail = rest.partition("/")
        methods = self._single.get((head, slash + tail))
        return (methods, argument) if methods is not None and argument else None

    def _with_greedy_argument(self, method: str, head: str, rest: str) -> tuple[dict[str, Target], str] | None:
        argument, slash, tail = rest.rpartition("/")
        whole = self._greedy.get((head, ""))
        if slash and argument:
            methods = self._greedy.get((head, slash + tail))
            if methods is not None and (method in methods or whole is None or method not in whole):
                return methods, argument
        return (whole, rest) if whole is not None else None

"""The ``filters`` of list, prune and events calls: parsing the two JSON forms and matching; which keys exist is for each service.

Engine API: a JSON object whose values are lists of strings, or, from older clients, objects with the strings as keys and a
boolean that says nothing. All values have the same form, and null stands for the empty value of its place.
Values of one key are alternatives; different keys must all match, and so must all labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kitepy.engine.model.errors import InvalidParameter

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True)
class Filters:
    """Immutable set of filters; an empty one matches all."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Filters:
        """Read the query parameter; raises InvalidParameter when it is no JSON object of one of the two forms."""
        if not text:
            return cls()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidParameter("invalid filter") from None
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidParameter("invalid filter")
        forms = {type(given) for given in document.values() if given is not None}
        if len(forms) > 1:
            raise InvalidParameter("invalid filter")  # lists and objects side by side
        return cls({key: _strings(given) for key, given in document.items()})

    def require_known(self, accepted: Iterable[str]) -> None:
        """Raise InvalidParameter for the first key that is not in ``accepted``."""
        known = frozenset(accepted)
        for key in self.values:
            if key not in known:
                raise InvalidParameter(f"invalid filter '{key}'")

    def __contains__(self, key: str) -> bool:
        return bool(self.values.get(key))

    def __bool__(self) -> bool:
        return bool(self.values)

    def get(self, key: str) -> tuple[str, ...]:
        """The values given for a key, in the client's order; empty when it is absent."""
        return self.values.get(key, ())

    def exact(self, key: str, *candidates: str) -> bool:
        """Whether the key is absent or one of its values equals one of the candidates."""
        wanted = self.values.get(key)
        return not wanted or any(candidate in wanted for candidate in candidates)

    def prefix(self, key: str, *candidates: str) -> bool:
        """Whether the key is absent or one of its values begins one of the candidates (ids may be abbreviated)."""
        wanted = self.values.get(key)
        return not wanted or any(candidate.startswith(value) for value in wanted for candidate in candidates)

    def pattern(self, key: str, *candidates: str) -> bool:
        """Whether the key is absent or one of its values, a regular expression, is found in one of the candidates."""
        wanted = self.values.get(key)
        if not wanted:
            return True
        return any(_found(value, candidate) for value in wanted for candidate in candidates)

    def labels(self, labels: Mapping[str, str] | None, key: str = "label") -> bool:
        """Whether all of the key's values (``name`` or ``name=value``) are among the labels."""
        return all(_has_label(labels or {}, wanted) for wanted in self.get(key))

    def without_labels(self, labels: Mapping[str, str] | None, key: str = "label!") -> bool:
        """Whether none of the key's values is among the labels (prune's ``label!=``)."""
        return not any(_has_label(labels or {}, unwanted) for unwanted in self.get(key))

    def flag(self, key: str, default: bool) -> bool:
        """The key as a boolean; raises InvalidParameter unless it says either ``true`` or ``1``, or ``false`` or ``0``."""
        wanted = self.values.get(key)
        if wanted is None:
            return default
        if not wanted:
            raise InvalidParameter(f"invalid filter '{key}'")
        is_true, is_false = "true" in wanted or "1" in wanted, "false" in wanted or "0" in wanted
        if is_true is is_false:
            raise InvalidParameter(f"invalid filter '{key}=[{' '.join(wanted)}]'")
        return is_true

    def single(self, key: str) -> str | None:
        """The key's only value; raises InvalidParameter for several."""
        wanted = self.get(key)
        if len(wanted) > 1:
            raise InvalidParameter(f"invalid filter '{key}': more than one value was given")
        return wanted[0] if wanted else None


def _strings(given: Any) -> tuple[str, ...]:
    if isinstance(given, dict):
        if not all(isinstance(chosen, bool | None) for chosen in given.values()):
            raise InvalidParameter("invalid filter")
        return tuple(given)
    if isinstance(given, list):
        if not all(isinstance(value, str | None) for value in given):
            raise InvalidParameter("invalid filter")
        return tuple(value or "" for value in given)
    if given is None:
        return ()
    raise InvalidParameter("invalid filter")


def _found(expression: str, candidate: str) -> bool:
    if expression == candidate:
        return True
    try:
        return re.search(expression, candidate) is not None
    except re.error:
        return False


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)

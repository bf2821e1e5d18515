"""The status table covers every kind of error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kitepy.engine.model.errors import EngineError, NotFound
from kitepy.engine.server.errors import STATUS, status_of


def _kinds(base: type[EngineError] = EngineError) -> Iterator[type[EngineError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def test_every_kind_of_error_has_a_status() -> None:
    assert {kind for kind in _kinds() if kind.__module__.startswith("kitepy.engine.model")} == set(STATUS)


def test_a_narrower_kind_has_the_status_of_its_base() -> None:
    class NoSuchThing(NotFound):
        """Narrower."""

    assert status_of(NoSuchThing("x")) == 404


def test_an_error_without_kind_is_not_mapped_silently() -> None:
    with pytest.raises(LookupError):
        status_of(EngineError("x"))

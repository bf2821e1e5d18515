"""Names."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.container_names import NAME_PATTERN, check_name, suggest_name


def test_suggested_names_are_allowed_and_never_run_out() -> None:
    assert all(NAME_PATTERN.fullmatch(suggest_name(attempt)) for attempt in range(20))
    assert len({suggest_name(8) for _ in range(200)}) == 200


@pytest.mark.parametrize(("name", "bare"), [("web", "web"), ("/web", "web"), ("a1", "a1"), ("A_b.c-d", "A_b.c-d")])
def test_allowed_names(name: str, bare: str) -> None:
    assert check_name(name) == bare


@pytest.mark.parametrize("name", ["a", "", "/", "//web", "-web", ".web", "we b", "web\n", "wéb", "a/b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        check_name(name)

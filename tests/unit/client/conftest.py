"""An engine of canned answers for the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fake_engine import FakeEngine


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with FakeEngine() as started:
        yield started

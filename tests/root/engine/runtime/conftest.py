"""One runtime laboratory per test."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runtime_lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A directory with a busybox layer and a launcher of its own."""
    return Lab(tmp_path)

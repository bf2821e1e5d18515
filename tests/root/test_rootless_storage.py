"""Storage as root of a user namespace: layers, their marks, ids, attributes and removal, as for an ordinary user's engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.user_namespace import FIRST_ID, in_user_namespace, namespace_directory

from kitepy.engine.kernel.user_namespaces import in_user_namespace as is_in_user_namespace


@pytest.fixture
def place() -> Iterator[Path]:
    with namespace_directory() as path:
        yield path


def test_a_function_runs_as_root_of_a_user_namespace(place: Path) -> None:
    def inside() -> tuple[int, bool]:
        (place / "f").write_text("x")
        os.chown(place / "f", 5, 6)
        return os.getuid(), is_in_user_namespace()

    assert in_user_namespace(inside) == (0, True)
    found = (place / "f").stat()
    assert (found.st_uid, found.st_gid) == (FIRST_ID + 5, FIRST_ID + 6)


def test_what_the_function_raises_comes_out(place: Path) -> None:
    with pytest.raises(PermissionError, match="Operation not permitted"):
        in_user_namespace(lambda: os.mknod(place / "null", 0o020666, os.makedev(1, 3)))

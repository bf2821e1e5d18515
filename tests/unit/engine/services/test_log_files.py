"""The files of a log are opened in the order of writing, whatever a rotation does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitepy.engine.runtime.log_rotation import RotatedFiles
from kitepy.engine.services import log_files


@pytest.mark.parametrize("rotations", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_rotations_amid_the_opening_change_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotations: int, after: int
) -> None:
    path = tmp_path / "log"
    files = RotatedFiles(str(path), 20, compress=False)
    written = iter(range(100))

    def fill() -> None:
        path.write_text(str(next(written)))

    def rotate() -> None:
        with path.open("a") as live:
            files.shift(live.fileno())
        fill()

    fill()
    for _ in range(3):
        rotate()
    open_one, calls = log_files._open_one, iter(range(1000))

    def opening(name: Path, *, may_be_compressed: bool) -> log_files.LogFile | None:
        if next(calls) == after:
            for _ in range(rotations):
                rotate()
        return open_one(name, may_be_compressed=may_be_compressed)

    monkeypatch.setattr(log_files, "_open_one", opening)
    opened = log_files.open_log(path)
    found = [int(file.read(10)) for file in opened]
    for file in opened:
        file.close()
    assert found == sorted(set(found))
    assert set(range(4)) <= set(found)

"""Account files that a container replaced by device nodes: the engine must not open them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.services.root_files import read_root_file


@pytest.mark.parametrize(("kind", "device"), [(stat.S_IFCHR, os.makedev(1, 5)), (stat.S_IFIFO, 0), (stat.S_IFSOCK, 0)])
def test_what_is_no_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, device: int) -> None:
    """For some devices, a watchdog's say, being opened is a command; containers may make such nodes by default."""
    (tmp_path / "upper" / "etc").mkdir(parents=True)
    os.mknod(tmp_path / "upper" / "etc" / "passwd", kind | 0o666, device)
    opened: list[tuple[str, int]] = []
    original = os.open

    def record(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened.append((os.path.basename(path), flags))
        return original(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", record)
    assert read_root_file(OverlayRoot(tmp_path, (), "upper", "work"), "etc/passwd") == ""
    assert opened, "the file was looked for"
    assert all(flags & os.O_PATH for name, flags in opened if name == "passwd")
    assert not [name for name, _ in opened if name.isdecimal()], "the node was reopened through /proc"

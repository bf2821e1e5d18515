"""How many bytes the files below a directory have, as Docker counts the sizes of containers and volumes."""

from __future__ import annotations

import os
from pathlib import Path


def directory_size(directory: Path) -> int:
    """The sum of the files' lengths; hard links count once, directories not at all. What vanishes meanwhile isn't counted."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [os.fspath(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        identity = (status.st_dev, status.st_ino)
                        if identity in seen:
                            continue
                        seen.add(identity)
                    total += status.st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total

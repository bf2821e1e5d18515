"""An engine with ``--userns-remap``, which finds subordinate ids in /etc files of its own."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from support.engine import EngineUnderTest

FIRST = 300_000
COUNT = 65_000
SECOND = 500_000
SECOND_COUNT = 1_000
"""Two ranges, with a gap between them."""
_OVER_ETC = 'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"'


class RemappedEngine(EngineUnderTest):
    """Its containers' root is ``FIRST`` on the host; ``remap`` False leaves the option out."""

    def __init__(self, *options: str, remap: bool = True) -> None:
        self.subids = Path(tempfile.mkstemp(prefix="subids-", dir="/var/tmp")[1])
        self.subids.write_text(f"dockremap:{FIRST}:{COUNT}\ndockremap:{SECOND}:{SECOND_COUNT}\n")
        self.remap = remap
        engine = (sys.executable, "-m", "kitepy.engine")
        super().__init__(
            *options,
            program=("unshare", "--mount", "--propagation=slave", "sh", "-c", _OVER_ETC, "sh", str(self.subids), *engine),
            rootless=False,
        )

    @property
    def command(self) -> list[str]:
        return [*super().command, *(("--userns-remap", "default") if self.remap else ())]

    def remove_files(self) -> None:
        super().remove_files()
        self.subids.unlink(missing_ok=True)

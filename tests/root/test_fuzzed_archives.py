"""A few seconds of hostile archives against what reads and unpacks them; ``make fuzz`` goes on as long as it is let."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_no_archive_of_hundreds_breaks_what_reads_and_unpacks_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.run", "--seed", "1", "--examples", "250", "--seconds", "120", "--no-coverage"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout
    for target in ("streams", "reading", "extraction"):
        assert f"{target}: 250 examples, nothing found" in done.stdout

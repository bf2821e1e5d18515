"""These tests change the machine they run on: they are for the one that ``make test-vm`` boots."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("KITEPY_VM") == "1" else ["*"]

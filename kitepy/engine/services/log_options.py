"""Options of the log drivers, as ``--log-opt`` gives them; pure."""

from __future__ import annotations

import re
from pathlib import Path

from kitepy.engine.model.container_config import LogConfig
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.launch import LogTarget

DRIVERS = ("json-file", "none")
_OPTIONS = {"json-file": ("max-size", "max-file"), "none": ()}
_SIZE = re.compile(r"(\d{1,18})\s*([kmg]?)(i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def log_target(config: LogConfig, path: Path) -> LogTarget:
    """Where a monitor writes; raises InvalidParameter for unknown options and Unsupported for unknown drivers."""
    driver = config.type or "json-file"
    if driver not in DRIVERS:
        raise Unsupported(
            f"The log driver '{driver}' is not supported by this version of Kitepy: use one of {', '.join(DRIVERS)}"
        )
    options = config.config or {}
    for name in options:
        if name not in _OPTIONS[driver]:
            raise InvalidParameter(f"unknown log opt '{name}' for {driver} log driver")
    if driver == "none":
        return LogTarget("none")
    max_size = parse_size(options["max-size"]) if options.get("max-size", "-1") != "-1" else 0
    max_files = _count(options.get("max-file", "1"))
    if max_files > 1 and max_size == 0:
        raise InvalidParameter("max-file cannot be set to more than one when max-size is not set")
    return LogTarget(driver, path, max_size_bytes=max_size, max_files=max_files)


def parse_size(text: str) -> int:
    """``10m``, ``512k``, ``1g``: bytes, in steps of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(match[1]) * _UNITS[match[2].lower()]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise InvalidParameter(f"max-file cannot be less than 1: '{text}'")
    return int(text)

"""What a user has decided about the engine, in a small file that the app and the command line share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path


class EngineMode(Enum):
    """With whose rights an engine runs."""

    ROOTLESS = "rootless"
    """The user's own."""
    ROOT = "root"
    """The administrator's: root's engine, or a user's that sudo or pkexec starts."""


def preferred_mode(environment: Mapping[str, str] | None = None, uid: int | None = None) -> EngineMode:
    """Root's engine has root's rights; a user's has the user's, unless that user chose otherwise."""
    if (os.getuid() if uid is None else uid) == 0:
        return EngineMode.ROOT
    try:
        document = json.loads(_file(os.environ if environment is None else environment).read_text())
        return EngineMode(document["engine"])
    except FileNotFoundError:
        return EngineMode.ROOTLESS
    except (OSError, ValueError, KeyError, TypeError):
        return EngineMode.ROOTLESS  # unreadable or edited by hand: the safe choice


def prefer(mode: EngineMode, environment: Mapping[str, str] | None = None) -> None:
    """Remember a choice. Raises OSError."""
    file = _file(os.environ if environment is None else environment)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({"engine": mode.value}) + "\n")
    temporary.replace(file)


def _file(environment: Mapping[str, str]) -> Path:
    if home := environment.get("KITEPY_HOME"):
        return Path(home).absolute() / "client.json"
    configured = environment.get("XDG_CONFIG_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path(environment.get("HOME") or "/root") / ".config"
    return base / "kitepy" / "client.json"

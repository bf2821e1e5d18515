"""Where the bundled engine of this user keeps its socket, state and log; starting it is left to ``bundled.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SUN_PATH_MAX_BYTES = 107
"""unix(7): ``sun_path`` has 108 bytes, the last one for the terminator."""


@dataclass(frozen=True)
class EnginePaths:
    """The bundled engine's places on disk."""

    socket: Path
    data_root: Path
    exec_root: Path
    pidfile: Path
    log: Path
    bytecode: Path | None = None
    """Compiled modules of an engine that runs as root for a user: beside the sources they would be root's files among the
    user's. None leaves them there."""

    @classmethod
    def default(cls, environment: Mapping[str, str] | None = None, uid: int | None = None) -> EnginePaths:
        """The places for a user: root's engine has the plain names, any other user's carries the user id.

        ``KITEPY_HOME`` puts everything below one directory, for tests and for trying things out.
        """
        environment = os.environ if environment is None else environment
        uid = os.getuid() if uid is None else uid
        if home := environment.get("KITEPY_HOME"):
            base = Path(home).absolute()
            return cls(
                socket=base / "engine.sock",
                data_root=base / "data",
                exec_root=base / "exec",
                pidfile=base / "engine.pid",
                log=base / "engine.log",
                bytecode=None if uid == 0 else base / "bytecode",
            )
        name = "kitepy" if uid == 0 else f"kitepy-{uid}"
        run = Path("/run") / name
        return cls(
            socket=run / "engine.sock",
            data_root=Path("/var/lib") / name,
            exec_root=run,
            pidfile=run / "engine.pid",
            log=_state_home(environment) / "kitepy" / "engine.log",
            bytecode=None if uid == 0 else Path("/var/cache") / name,
        )


def _state_home(environment: Mapping[str, str]) -> Path:
    """XDG Base Directory Specification 0.8: ``$XDG_STATE_HOME``, ignored unless absolute."""
    configured = environment.get("XDG_STATE_HOME", "")
    if configured.startswith("/"):
        return Path(configured)
    return Path(environment.get("HOME") or "/root") / ".local" / "state"

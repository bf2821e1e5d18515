"""Where the bundled engine of this user keeps its socket, state and log; starting it is left to ``bundled.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kitepy.client.preferences import EngineMode, preferred_mode

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
    mode: EngineMode = EngineMode.ROOT

    @classmethod
    def default(
        cls, environment: Mapping[str, str] | None = None, uid: int | None = None, mode: EngineMode | None = None
    ) -> EnginePaths:
        """The places of a user's engine: in the home and runtime directory when it runs with the user's rights.

        Root's engine has the plain names below /run and /var/lib, one with root's rights on a user's behalf has them with the
        user's id. ``mode`` is what the user prefers when it is not given. ``KITEPY_HOME`` puts everything below one directory,
        for tests and for trying things out.
        """
        environment = os.environ if environment is None else environment
        uid = os.getuid() if uid is None else uid
        mode = EngineMode.ROOT if uid == 0 else mode or preferred_mode(environment, uid)
        if home := environment.get("KITEPY_HOME"):
            base = Path(home).absolute()
            if uid and mode is EngineMode.ROOT:
                base = base / "as-root"  # root's files would stand in the way of the user's engine
            return cls(
                socket=base / "engine.sock",
                data_root=base / "data",
                exec_root=base / "exec",
                pidfile=base / "engine.pid",
                log=base / "engine.log",
                bytecode=None if uid == 0 or mode is EngineMode.ROOTLESS else base / "bytecode",
                mode=mode,
            )
        if mode is EngineMode.ROOTLESS:
            run = _runtime_home(environment, uid) / "kitepy"
            return cls(
                socket=run / "engine.sock",
                data_root=_home(environment, "XDG_DATA_HOME", ".local/share") / "kitepy",
                exec_root=run,
                pidfile=run / "engine.pid",
                log=_state_home(environment) / "kitepy" / "engine.log",
                mode=mode,
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
            mode=mode,
        )


def _state_home(environment: Mapping[str, str]) -> Path:
    return _home(environment, "XDG_STATE_HOME", ".local/state")


def _home(environment: Mapping[str, str], variable: str, usual: str) -> Path:
    """XDG Base Directory Specification 0.8: the variable's value, ignored unless absolute."""
    configured = environment.get(variable, "")
    if configured.startswith("/"):
        return Path(configured)
    return Path(environment.get("HOME") or "/root") / usual


def _runtime_home(environment: Mapping[str, str], uid: int) -> Path:
    """A directory of this user alone: XDG_RUNTIME_DIR, or where it usually is, else one in the home directory.

    A value that was inherited from another user, as su leaves it, is of no use.
    """
    for candidate in (environment.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if not candidate.startswith("/"):
            continue
        try:
            if os.stat(candidate).st_uid == uid:
                return Path(candidate)
        except OSError:
            continue
    return _state_home(environment) / "kitepy-run"

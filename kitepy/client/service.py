"""The engine as a service of systemd: the unit's text, and turning it on and off for a user; see systemd.service(5)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kitepy.client.errors import EngineStartError

UNIT = "kitepy.service"
_TIMEOUT_S = 120
_BY_ITSELF = "`kitepy engine start` starts the engine by itself."


def unit_text(command: Sequence[str], *, user: bool) -> str:
    """The unit file for an engine's command line.

    Containers outlive the engine and its unit, as they do when the engine is killed: their groups are not the unit's, only the
    engine's own process is ended with it, and it leaves them running (``--live-restore``).
    """
    started = " ".join(_quote(word) for word in [*command, "--live-restore"])
    lines = [
        "[Unit]",
        "Description=Kitepy's container engine",
        *([] if user else ["After=network-online.target", "Wants=network-online.target"]),
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={started}",
        "Restart=on-failure",
        "Delegate=yes",
        "KillMode=process",
        "TasksMax=infinity",
        "LimitNOFILE=1048576" if not user else "OOMPolicy=continue",
        "",
        "[Install]",
        f"WantedBy={'default.target' if user else 'multi-user.target'}",
    ]
    return "\n".join(lines) + "\n"


def _quote(word: str) -> str:
    """A word of ExecStart: specifiers and variables taken literally, blanks kept."""
    literal = word.replace("%", "%%").replace("$", "$$")
    if literal and all(character.isalnum() or character in "/._-=:%$+,@" for character in literal):
        return literal
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'


def enable(environ: Mapping[str, str]) -> str:
    """Start the user's engine now and at each login; gives a sentence about it. Raises EngineStartError."""
    path = _unit_path(environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(unit_text([sys.executable, "-m", "kitepy.engine"], user=True), encoding="utf-8")
    _systemctl(environ, "daemon-reload")
    _systemctl(environ, "enable", "--now", UNIT)
    return f"The engine runs as {UNIT} of your systemd and starts when you log in ({path})."


def disable(environ: Mapping[str, str]) -> str:
    """Undo `enable`; containers keep running. Raises EngineStartError."""
    path = _unit_path(environ)
    if not path.exists():
        return "The engine is no service of your systemd."
    _systemctl(environ, "disable", "--now", UNIT)
    path.unlink()
    _systemctl(environ, "daemon-reload")
    return "The engine starts no more when you log in; containers that ran keep running."


def _unit_path(environ: Mapping[str, str]) -> Path:
    if os.getuid() == 0:
        raise EngineStartError(
            "This is for an ordinary user's engine.", "Root's unit is packaging/systemd/system/kitepy.service."
        )
    configuration = environ.get("XDG_CONFIG_HOME", "")
    base = Path(configuration) if configuration.startswith("/") else Path(environ.get("HOME") or "/") / ".config"
    return base / "systemd" / "user" / UNIT


def _systemctl(environ: Mapping[str, str], *words: str) -> None:
    program = shutil.which("systemctl")
    if program is None:
        raise EngineStartError("There is no systemd on this machine.", _BY_ITSELF)
    done = subprocess.run(
        [program, "--user", "--quiet", *words],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        problem = done.stderr.strip() or f"exit code {done.returncode}"
        raise EngineStartError(
            f"systemctl --user {words[0]} failed: {problem}", "`kitepy engine start` starts the engine by itself."
        )

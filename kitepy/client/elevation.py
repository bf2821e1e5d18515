"""Decides how an engine gets root's rights for an ordinary user who chose that; usually an engine runs without them.

It goes through sudo when that asks nothing, else through pkexec, which asks on the desktop.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

WHY = "You chose an engine with administrator rights: whoever uses it could take over this machine."


@dataclass(frozen=True)
class Elevation:
    """A prefix for a command line, and how long a person may take to answer it."""

    prefix: tuple[str, ...]
    asks: bool
    """Whether a dialogue may come up."""


def choose(
    uid: int, has_display: bool, sudo_is_silent: Callable[[], bool], find: Callable[[str], str | None]
) -> Elevation | None:
    """How to run a command as root; None when there is no way."""
    if uid == 0:
        return Elevation((), asks=False)
    if (sudo := find("sudo")) and sudo_is_silent():
        return Elevation((sudo, "-n", "--"), asks=False)
    if has_display and (pkexec := find("pkexec")):
        return Elevation((pkexec, "--disable-internal-agent"), asks=True)
    return None


def find_program(name: str) -> str | None:
    """A program on the path or in the administrator's directories."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def sudo_asks_nothing() -> bool:
    """Whether sudo would run a command now without a password."""
    try:
        done = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""A private X display with a window manager, for tests and pictures of the app. Started and ended by its context manager."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = ("Xvfb", "openbox", "xdotool")
_PATIENCE_S = 15.0


def missing_programs() -> list[str]:
    return [name for name in NEEDED if shutil.which(name) is None]


@contextmanager
def display(size: str = "1400x950x24", *, programs: tuple[tuple[str, ...], ...] = (("openbox",),)) -> Iterator[str]:
    """Gives the display's name; `programs` run on it, and all of them end with it."""
    if missing := missing_programs():
        raise RuntimeError(f"The app's tests need {', '.join(missing)}: sudo apt-get install xvfb openbox xdotool")
    read_fd, write_fd = os.pipe()
    # -displayfd lets the server choose a free number and tell it: no race with other runs.
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_fd), "-screen", "0", size, "-nolisten", "tcp"],
        pass_fds=[write_fd],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_fd)
    started = [server]
    try:
        with os.fdopen(read_fd) as told:
            number = told.readline().strip()
        if not number:
            raise RuntimeError("Xvfb ended without opening a display")
        name = f":{number}"
        environment = {**os.environ, "DISPLAY": name}
        for program in programs:
            started.append(subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_for_window_manager(environment)
        yield name
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_window_manager(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["xdotool", "get_num_desktops"], env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
        if found.returncode == 0 and found.stdout.strip().isdigit():
            return
        time.sleep(0.05)
    raise RuntimeError("the window manager didn't come up")

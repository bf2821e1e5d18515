"""A virtual X display with a small window manager, and the pointer and keys of a person in front of it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

PROGRAMS = ("Xvfb", "openbox", "xdotool")
START_TIMEOUT_S = 15.0


class DisplayError(Exception):
    """The display, or a window on it, is not what was expected."""


@dataclass(frozen=True)
class Rectangle:
    """Part of the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def centre(self) -> tuple[int, int]:
        """Where a person would aim."""
        return self.x + self.width // 2, self.y + self.height // 2


def missing_programs() -> list[str]:
    """Which of the programs this needs are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Display:
    """A running display; ``environment`` makes a program appear on it."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.environment = dict(environment)

    def xdotool(self, *arguments: str, timeout_s: float = 10) -> str:
        """Run xdotool and give its output; a failure raises `DisplayError`."""
        done = subprocess.run(
            ["xdotool", *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode != 0:
            raise DisplayError(f"xdotool {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def find_window(self, title: str) -> str | None:
        """A visible window whose title matches a regular expression."""
        done = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", title],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        found = done.stdout.split()
        return found[0] if found else None

    def wait_for_window(self, title: str, timeout_s: float, process: subprocess.Popen[bytes] | None = None) -> str:
        """Wait for a window; gives up early when the process that should show it has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if window := self.find_window(title):
                return window
            if process is not None and process.poll() is not None:
                raise DisplayError(f"the program ended with {process.returncode} before it showed a window")
            time.sleep(0.03)
        raise DisplayError(f"no window with the title {title} appeared within {timeout_s:.0f} s")

    def title(self, window: str) -> str:
        """What its title bar says."""
        return self.xdotool("getwindowname", window).rstrip("\n")

    def geometry(self, window: str) -> Rectangle:
        """Where a window is."""
        values = dict(
            line.split("=", 1) for line in self.xdotool("getwindowgeometry", "--shell", window).splitlines() if "=" in line
        )
        return Rectangle(int(values["X"]), int(values["Y"]), int(values["WIDTH"]), int(values["HEIGHT"]))

    def drag(self, start: tuple[int, int], end: tuple[int, int], steps: int = 24) -> None:
        """Press, move and release as a hand does: a jump would not begin a drag."""
        self.xdotool("mousemove", str(start[0]), str(start[1]))
        time.sleep(0.1)
        self.xdotool("mousedown", "1")
        for step in range(1, steps + 1):
            x, y = (start[axis] + (end[axis] - start[axis]) * step // steps for axis in (0, 1))
            self.xdotool("mousemove", str(x), str(y))
            time.sleep(0.02)
        # A last small move over the target, and time for it to answer that it takes the drop.
        self.xdotool("mousemove", str(end[0] + 2), str(end[1] + 2))
        time.sleep(0.25)
        self.xdotool("mouseup", "1")

    def press(self, window: str, key: str) -> None:
        """Give a window the focus and press a key."""
        self.xdotool("windowactivate", "--sync", window)
        self.xdotool("key", "--clearmodifiers", key)


@contextmanager
def virtual_display(width: int = 1400, height: int = 900) -> Iterator[Display]:
    """Start Xvfb on a free number and openbox on it; both end with the block."""
    if missing := missing_programs():
        raise DisplayError(f"{', '.join(missing)} not found. Install them: packaging/install.sh demo")
    with ExitStack() as stack:
        number = _start_server(stack, f"{width}x{height}x24")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYLAND_", "XDG_SESSION"))}
        environment = {**kept, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        manager = _start(stack, ["openbox"], environment=environment)
        display = Display(f":{number}", environment)
        _wait_for_window_manager(display, manager)
        yield display


def _start_server(stack: ExitStack, screen: str) -> str:
    """Start Xvfb and give its number once it takes connections.

    The number is a random high one: left to itself Xvfb takes the lowest that is free in its own /tmp, but clients look for
    an abstract socket first, and that may be the server of a container or chroot with the same network namespace.
    """
    code = None
    for _ in range(5):
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as numbers:
            server = _start(
                stack,
                [
                    "Xvfb",
                    f":{1000 + secrets.randbelow(50_000)}",
                    "-displayfd",
                    str(write_end),
                    "-screen",
                    "0",
                    screen,
                    "-nolisten",
                    "tcp",
                    # A server resets when its last client leaves: a window manager that comes just then is thrown out.
                    "-noreset",
                ],
                pass_fds=[write_end],
            )
            os.close(write_end)
            # Ends with the number, or empty when Xvfb gave up.
            if number := numbers.readline().strip():
                return number
        code = server.wait(START_TIMEOUT_S)
    raise DisplayError(f"Xvfb did not start (exit code {code})")


def _start(
    stack: ExitStack, command: Sequence[str], environment: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        env=environment,
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(end_process, process)
    return process


def _wait_for_window_manager(display: Display, manager: subprocess.Popen[bytes]) -> None:
    """openbox has taken over when the root window tells which desktop is the current one."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            display.xdotool("get_desktop")
        except DisplayError:
            if manager.poll() is not None:
                raise DisplayError(f"openbox ended with {manager.returncode} before it managed a window") from None
            time.sleep(0.05)
        else:
            return
    raise DisplayError(f"openbox did not start within {START_TIMEOUT_S:.0f} s")


def end_process(process: subprocess.Popen[bytes], timeout_s: float = 10) -> None:
    """Ask a process to end, and make it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout_s)

"""The tray as today's desktops show it: a StatusNotifierItem with a menu over D-Bus."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.status_notifier import Panel, panel


def until(true: Callable[[], object], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.05)


def test_the_panel_s_menu_stops_starts_and_quits(display, tmp_path: Path) -> None:
    assert shutil.which("dbus-daemon"), "this test needs dbus: packaging/install.sh test"
    with panel() as (desktop, address):
        tests = str(Path(__file__).parents[1])
        environment = {**display.environment, "DBUS_SESSION_BUS_ADDRESS": address, "PYTHONPATH": tests}
        command = [sys.executable, "-m", "support.tray_app", str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as app:
            try:
                _use(desktop, display, app)
            finally:
                app.kill()


def _use(desktop: Panel, display, app: subprocess.Popen[str]) -> None:
    item = desktop.item()
    until(lambda: any(child.label.startswith("web") for child in desktop.menu(item).children))
    menu = desktop.menu(item)
    assert [child.label.replace("_", "") for child in menu.children if child.label][-4:] == [
        "New…",
        "Build a folder…",
        "Show window",
        "Quit (containers keep running)",
    ]
    web = menu.find("web — Running")
    assert web.find("Stop").enabled
    assert not web.find("Start").enabled
    desktop.choose(item, web.find("Stop"))
    until(lambda: any(child.label.startswith("web — Stopped") for child in desktop.menu(item).children))
    desktop.choose(item, desktop.menu(item).find("web").find("Start"))
    until(lambda: any(child.label.startswith("web — Running") for child in desktop.menu(item).children))

    # With a tray, closing only hides the window; the icon brings it back.
    window = display.wait_for_window("^Kitepy$", 10)
    until(lambda: _closed(display, window))
    assert app.poll() is None
    desktop.activate(item)
    until(lambda: display.find_window("^Kitepy$"))

    desktop.choose(item, desktop.menu(item).find("Quit"))
    assert app.wait(10) == 0
    assert app.stdout is not None
    calls = [line.split()[0] for line in app.stdout]
    assert [call for call in calls if call in ("stop", "start", "kill", "remove")] == ["stop", "start"]


def _closed(display, window: str) -> bool:
    """Asks the window manager to close it, again if the key came before the window had the focus."""
    if display.find_window("^Kitepy$") is None:
        return True
    display.xdotool("windowactivate", window, "key", "--clearmodifiers", "alt+F4")
    time.sleep(0.3)
    return display.find_window("^Kitepy$") is None

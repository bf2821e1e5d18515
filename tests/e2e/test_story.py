"""The main story as a person sees it: the app, its engine, a dragged folder, a page; played by ``kitepy demo``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import unused_bip
from support.ordinary_user import REPOSITORY, user_command

from kitepy.client import EnginePaths
from kitepy.client.probe import Presence, probe


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ks-", dir="/var/tmp"))
    yield directory
    subprocess.run([sys.executable, "-m", "kitepy", "engine", "stop"], env=environment_for(directory), check=False, timeout=60)
    shutil.rmtree(directory, ignore_errors=True)


def environment_for(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    # A home of its own keeps the app's settings apart too.
    return {**kept, "KITEPY_HOME": str(home), "HOME": str(home), "KITEPY_ENGINE_ARGS": f"--bip {BIP}"}


BIP = unused_bip()


def run(home: Path, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kitepy", *arguments],
        env=environment_for(home),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_a_folder_dragged_onto_the_window_becomes_a_page(home: Path) -> None:
    picture = home / "demo.png"
    done = run(home, "demo", "--screenshot", str(picture), timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello from Kitepy" in done.stdout
    assert "the container is still running" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000, "an empty screen packs to less"
    assert probe(EnginePaths.default({"KITEPY_HOME": str(home)}).socket).presence in (Presence.ABSENT, Presence.STALE)


def test_an_ordinary_user_gets_the_page_without_any_process_of_root(home: Path) -> None:
    picture = home / "demo.png"
    command = user_command(home, [sys.executable, "-m", "kitepy", "demo", "--screenshot", str(picture)])
    with (home / "output").open("w+") as output:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        played = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd="/")
        seen: dict[str, int] = {}
        deadline = time.monotonic() + 200
        while played.poll() is None and time.monotonic() < deadline:
            seen |= processes_below(home)
            time.sleep(0.02)
        played.kill()
        code = played.wait()
        output.seek(0)
        text = output.read()
    assert code == 0, text
    assert "Hello from Kitepy" in text
    for name in ("kitepy.engine ", "kitepy-namespaces", "kitepy.engine.runtime.launcher"):
        assert any(name in words for words in seen), name
    # The user's own id everywhere; a set-uid tool that maps ids counts as what the kernel sees: the user who runs it.
    assert {words: uid for words, uid in seen.items() if uid == 0} == {}
    assert picture.stat().st_size > 20_000


def test_the_demo_of_a_user_who_lacks_something_fails_at_once_with_the_command_that_helps(home: Path) -> None:
    command = user_command(home, [sys.executable, "-m", "kitepy", "demo", "--screenshot", str(home / "demo.png")], subids="")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd="/")
    assert done.returncode == 1
    assert "sudo usermod --add-subuids " in done.stderr
    assert "did not answer" not in done.stderr


def processes_below(home: Path) -> dict[str, int]:
    """The real user id, by command line, of programs that have the home in their environment, and of all that these started."""
    found: dict[str, int] = {}
    ours: set[int] = set()
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        entry = Path(f"/proc/{pid}")
        try:
            status = (entry / "status").read_text()
            parent = int(status.split("PPid:")[1].split()[0])
            if parent in ours or f"HOME={home}".encode() in (entry / "environ").read_bytes():
                ours.add(pid)
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[words] = int(status.split("Uid:")[1].split()[0])
        except OSError:
            continue  # It ended meanwhile.
    return found


def test_the_engine_is_started_adopted_and_stopped_from_the_command_line(home: Path) -> None:
    assert run(home, "engine", "status").returncode == 3
    started = run(home, "engine", "start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert " started (process" in started.stdout
    assert " was running (process" in run(home, "engine", "start").stdout
    assert run(home, "engine", "status").stdout.startswith("healthy")
    assert "ended" in run(home, "engine", "stop").stdout
    assert run(home, "engine", "status").returncode == 3


def test_without_a_display_the_app_says_what_to_do(home: Path) -> None:
    done = run(home)
    assert done.returncode == 1
    assert "kitepy demo" in done.stderr

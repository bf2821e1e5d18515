"""Starting, adopting and stopping an engine process; a small script stands for the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine

from kitepy import __version__
from kitepy.client import BundledEngine, EngineMode, EnginePaths, EngineStartError
from kitepy.client.bundled import engine_command
from kitepy.client.elevation import Elevation, choose
from kitepy.client.probe import Presence, kitepy_version, probe

# An engine as far as starting goes: listens, answers every request with its version, ends on SIGTERM.
ENGINE = """
import json, socket, sys
path, version = sys.argv[1:3]
import os
if os.path.exists(path): os.unlink(path)
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen()
body = json.dumps({"Version": "28", "Components": [{"Name": "Kitepy Engine", "Version": version}]}).encode()
print("listening", flush=True)
while True:
    peer, _ = listener.accept()
    peer.recv(4096)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    peer.close()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kb-") as directory:
        yield Path(directory)


@pytest.fixture
def paths(home: Path) -> Iterator[EnginePaths]:
    paths = EnginePaths.default({"KITEPY_HOME": str(home)})
    yield paths
    found = probe(paths.socket)
    if found.pid and found.pid != os.getpid():
        os.kill(found.pid, signal.SIGKILL)


def bundled(paths: EnginePaths, program: str = ENGINE, version: str = __version__, timeout_s: float = 10) -> BundledEngine:
    return BundledEngine(
        paths,
        start_timeout_s=timeout_s,
        command=lambda where, _uid: [sys.executable, "-c", program, str(where.socket), version],
        elevate=lambda: Elevation((), asks=False),
    )


def test_an_engine_is_started_once_and_then_adopted(paths: EnginePaths) -> None:
    first = asyncio.run(bundled(paths).ensure_running())
    second = asyncio.run(bundled(paths).ensure_running())
    assert (first.adopted, second.adopted) == (False, True)
    assert first.pid == second.pid
    assert second.version == __version__


def test_the_engine_has_a_session_of_its_own_so_that_it_outlives_the_app(paths: EnginePaths) -> None:
    info = asyncio.run(bundled(paths).ensure_running())
    assert os.getsid(info.pid) == info.pid != os.getsid(0)


def test_an_engine_of_another_version_is_replaced(paths: EnginePaths) -> None:
    old = asyncio.run(bundled(paths, version="0.0.1").ensure_running())
    new = asyncio.run(bundled(paths).ensure_running())
    assert not new.adopted
    assert new.pid != old.pid
    assert new.version == __version__


def test_a_socket_that_nobody_listens_on_does_not_stand_in_the_way(paths: EnginePaths) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(paths.socket))
    assert probe(paths.socket).presence is Presence.STALE
    assert not asyncio.run(bundled(paths).ensure_running()).adopted


def test_stop_ends_the_engine_and_tells_whether_there_was_one(paths: EnginePaths) -> None:
    engine = bundled(paths)
    info = asyncio.run(engine.ensure_running())
    assert asyncio.run(engine.stop())
    assert not Path(f"/proc/{info.pid}/stat").exists() or Path(f"/proc/{info.pid}/stat").read_text().split()[2] == "Z"
    assert not asyncio.run(engine.stop())


def test_an_engine_that_dies_early_is_reported_with_its_last_words(paths: EnginePaths) -> None:
    program = "import sys; print('first'); sys.exit('cannot open /dev/fuse')"
    with pytest.raises(EngineStartError, match=r"ended while starting \(exit code 1\): cannot open /dev/fuse") as caught:
        asyncio.run(bundled(paths, program).ensure_running())
    assert "first" in caught.value.log_tail
    assert str(paths.log) in caught.value.hint


def test_only_the_last_start_s_lines_are_shown(paths: EnginePaths) -> None:
    paths.log.write_text("old trouble\n")
    with pytest.raises(EngineStartError) as caught:
        asyncio.run(bundled(paths, "import sys; sys.exit('new trouble')").ensure_running())
    assert "old" not in caught.value.log_tail


def test_an_engine_that_never_answers_is_given_up_and_ended(paths: EnginePaths) -> None:
    began = time.monotonic()
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1] + '.pid').write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(EngineStartError, match="did not answer within 1 seconds"):
        asyncio.run(bundled(paths, program, timeout_s=1).ensure_running())
    assert time.monotonic() - began < 10
    pid = int(Path(f"{paths.socket}.pid").read_text())
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() - began < 10
        time.sleep(0.01)


def test_another_engine_on_the_socket_is_left_alone(paths: EnginePaths) -> None:
    with FakeEngine() as fake:
        fake.answer("GET", "/version", {"Version": "28.0.0", "Components": [{"Name": "Engine", "Version": "28.0.0"}]})
        elsewhere = EnginePaths(fake.socket, paths.data_root, paths.exec_root, paths.pidfile, paths.log)
        with pytest.raises(EngineStartError, match="Another engine than Kitepy's"):
            asyncio.run(bundled(elsewhere).ensure_running())
        with pytest.raises(EngineStartError, match="left alone"):
            asyncio.run(bundled(elsewhere).stop())


def test_a_socket_path_that_the_kernel_can_t_take_is_explained(home: Path) -> None:
    paths = EnginePaths.default({"KITEPY_HOME": str(home / ("x" * 120))})
    with pytest.raises(EngineStartError, match="too long") as caught:
        asyncio.run(bundled(paths).ensure_running())
    assert "KITEPY_HOME" in caught.value.hint


def test_without_a_way_to_root_the_exact_command_is_given(paths: EnginePaths) -> None:
    engine = BundledEngine(paths, command=lambda where, uid: engine_command(where, uid), elevate=lambda: None)
    with pytest.raises(EngineStartError, match="to be started as root") as caught:
        asyncio.run(engine.ensure_running())
    assert f"sudo {sys.executable} " in caught.value.hint
    assert f" -m kitepy.engine -H unix://{paths.socket}" in caught.value.hint


def test_two_apps_at_once_start_one_engine(paths: EnginePaths) -> None:
    async def both() -> None:
        infos = await asyncio.gather(bundled(paths).ensure_running(), bundled(paths).ensure_running())
        assert sorted(info.adopted for info in infos) == [False, True]
        assert len({info.pid for info in infos}) == 1

    asyncio.run(both())


def test_root_s_engine_has_plain_places_and_one_on_a_user_s_behalf_carries_the_id() -> None:
    root = EnginePaths.default({"HOME": "/root"}, uid=0)
    environment = {"HOME": "/home/ada", "XDG_STATE_HOME": "/home/ada/state"}
    user = EnginePaths.default(environment, uid=1000, mode=EngineMode.ROOT)
    assert str(root.socket) == "/run/kitepy/engine.sock"
    assert str(root.log) == "/root/.local/state/kitepy/engine.log"
    assert str(user.socket) == "/run/kitepy-1000/engine.sock"
    assert str(user.log) == "/home/ada/state/kitepy/engine.log"


def test_a_user_s_engine_is_told_whose_the_socket_is() -> None:
    paths = EnginePaths.default({"HOME": "/home/ada"}, uid=1000, mode=EngineMode.ROOT)
    assert engine_command(paths, 1000, python="py")[-2:] == ["--socket-owner", "1000"]
    assert "--socket-owner" not in engine_command(paths, 0)


def test_an_engine_that_is_root_for_a_user_writes_no_files_among_the_user_s() -> None:
    user = engine_command(EnginePaths.default({"HOME": "/home/ada"}, uid=1000, mode=EngineMode.ROOT), 1000, python="py")
    assert user[:5] == ["py", "-X", "pycache_prefix=/var/cache/kitepy-1000", "-m", "kitepy.engine"]
    root = engine_command(EnginePaths.default({"HOME": "/root"}, uid=0), 0, python="py")
    assert root[:3] == ["py", "-m", "kitepy.engine"]


def test_root_needs_no_help_and_a_user_prefers_a_silent_sudo_to_a_dialogue() -> None:
    everything = {"sudo": "/usr/bin/sudo", "pkexec": "/usr/bin/pkexec"}.get
    assert choose(0, False, lambda: False, everything) == Elevation((), asks=False)
    assert choose(1000, True, lambda: True, everything) == Elevation(("/usr/bin/sudo", "-n", "--"), asks=False)
    asking = choose(1000, True, lambda: False, everything)
    assert asking is not None
    assert asking.asks
    assert asking.prefix[0] == "/usr/bin/pkexec"
    assert choose(1000, False, lambda: False, everything) is None
    assert choose(1000, True, lambda: True, lambda _: None) is None


def test_kitepy_is_told_from_other_engines_by_its_components() -> None:
    assert kitepy_version({"Version": "28", "Components": [{"Name": "Kitepy Engine", "Version": "0.1.0"}]}) == "0.1.0"
    assert kitepy_version({"Version": "0.1.0", "Platform": {"Name": "Kitepy"}}) == "0.1.0"
    assert kitepy_version({"Version": "28.0.0", "Platform": {"Name": "Docker Engine - Community"}, "Components": None}) == ""


def test_the_engine_s_log_is_kept_bounded(paths: EnginePaths) -> None:
    paths.log.parent.mkdir(parents=True, exist_ok=True)
    with paths.log.open("wb") as log:
        log.truncate(6_000_000)
    asyncio.run(bundled(paths).ensure_running())
    assert paths.log.stat().st_size < 1000
    assert paths.log.with_suffix(".log.1").stat().st_size == 6_000_000


def test_an_app_that_ends_leaves_its_engine_running(paths: EnginePaths, home: Path) -> None:
    script = home / "app.py"
    script.write_text(
        "import asyncio, sys\n"
        "from kitepy.client import BundledEngine, EnginePaths\n"
        "from kitepy.client.elevation import Elevation\n"
        f"paths = EnginePaths.default({{'KITEPY_HOME': {str(home)!r}}})\n"
        "engine = BundledEngine(paths, elevate=lambda: Elevation((), asks=False),\n"
        f"    command=lambda where, uid: [sys.executable, '-c', {ENGINE!r}, str(where.socket), {__version__!r}])\n"
        "print(asyncio.run(engine.ensure_running()).pid)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=30)
    found = probe(paths.socket)
    assert found.presence is Presence.HEALTHY
    assert found.pid == int(done.stdout)

"""Monitors outlive the engine: adoption, exit statuses from disk, and containers that lost their monitor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.processes import is_alive
from support.runtime_lab import Lab, cgroups_left, eventually, log_entries, make_document, read_until

from kitepy.engine.model.launch import ExitReason, ExitStatus
from kitepy.engine.runtime.client import RunningContainer

# An engine of a few lines: starts the containers it is told to, says so, and waits to be killed.
ENGINE = """
import asyncio, pickle, sys
from pathlib import Path
from kitepy.engine.runtime.launcher import fork_launcher
handle = fork_launcher()
from kitepy.engine.kernel.cgroups import detect
from kitepy.engine.runtime.client import Runtime
requests, exec_root = pickle.load(sys.stdin.buffer)
async def main():
    runtime = Runtime(handle, exec_root, detect())
    for request in requests:
        await runtime.start(request)
    print("started", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def _run_engine(lab: Lab, *requests: object) -> subprocess.Popen[bytes]:
    import pickle

    engine = subprocess.Popen([sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(pickle.dumps((requests, lab.base / "exec")))
    engine.stdin.close()
    assert engine.stdout.readline() == b"started\n"
    return engine


def test_a_container_survives_kill_9_of_the_engine_and_loses_no_line(lab: Lab) -> None:
    async def test() -> None:
        script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; usleep 2000; done; exit 3"
        logging = lab.request(make_document(["sh", "-c", script]))
        short = lab.request(make_document(["sh", "-c", "echo bye; exit 4"]))
        engine = _run_engine(lab, logging, short)
        engine.send_signal(signal.SIGKILL)
        engine.wait()
        adopted = await lab.runtime.adopt(logging.container_id, logging.state_dir)
        assert isinstance(adopted, RunningContainer)
        stream = await adopted.attach(stdin=False, stdout=True, stderr=True)
        await read_until(stream, b"300\n")
        assert (await adopted.exited).code == 3
        assert [entry["log"] for entry in log_entries(logging)] == [f"{number}\n" for number in range(1, 301)]
        ended = await lab.runtime.adopt(short.container_id, short.state_dir)
        assert isinstance(ended, ExitStatus)
        assert (ended.code, ended.reason) == (4, ExitReason.EXITED)

    lab.run(test)


def test_a_container_whose_monitor_was_killed_is_lost_and_cleaned_up(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sleep", "1000"]))
        container = await lab.start(request)
        os.kill(json.loads((request.state_dir / "status.json").read_text())["monitor_pid"], signal.SIGKILL)
        status = await container.exited
        assert (status.code, status.reason) == (137, ExitReason.LOST)
        await eventually(lambda: not is_alive(container.pid))
        assert cgroups_left(request.container_id) == []
        again = await lab.runtime.adopt(request.container_id, request.state_dir)
        assert isinstance(again, ExitStatus)
        assert again.reason is ExitReason.LOST

    lab.run(test)


def test_the_inventory_tells_live_ended_and_lost_apart(lab: Lab) -> None:
    async def test() -> None:
        live = lab.request(make_document(["sleep", "1000"]))
        ended = lab.request(make_document(["true"]))
        lost = lab.request(make_document(["sleep", "1000"]))
        empty = lab.request(make_document(["true"]))
        await lab.start(live)
        await (await lab.start(ended)).exited
        container = await lab.start(lost)
        os.kill(json.loads((lost.state_dir / "status.json").read_text())["monitor_pid"], signal.SIGKILL)
        await container.exited
        found = lab.runtime.inventory()
        assert (found.live, found.ended) == ((live.container_id,), (ended.container_id,))
        assert (found.lost, found.empty) == ((lost.container_id,), (empty.container_id,))

    lab.run(test)


def test_a_monitor_outlives_the_launcher(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "1000"])))
        os.kill(lab.launcher_pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
        await container.signal(0)
        assert not container.exited.done()

    lab.run(test)


def test_a_monitor_is_small(lab: Lab) -> None:
    async def test() -> None:
        containers = [await lab.start(lab.request(make_document(["sleep", "1000"]))) for _ in range(10)]
        pid = json.loads((containers[5].state_dir / "status.json").read_text())["monitor_pid"]
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        pss_kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        assert pss_kib < 3072

    lab.run(test)

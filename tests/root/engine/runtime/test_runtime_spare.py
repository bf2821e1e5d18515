"""Monitors that are forked in advance: used once, replaced, done without, and gone with the launcher."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.processes import is_alive
from support.runtime_lab import Lab, eventually, log_entries, make_document

from kitepy.engine.kernel.packets import send
from kitepy.engine.model.launch import LaunchRequest
from kitepy.engine.runtime.children import Child, new_socketpair, proceed

_MONITOR = "kitepy-monitor"


def log_text(request: LaunchRequest) -> str:
    return "".join(entry["log"] for entry in log_entries(request))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _needs_a_prepared_process(lab: Lab) -> None:
    if lab.cgroups.version == 2:
        pytest.skip("with control groups of version 2 process 1 is not forked in advance, but in its group")


async def _spare(lab: Lab) -> int:
    """The one monitor that waits; its process 1 waits, too, where there is one in advance."""
    found: list[int] = []

    def waits() -> bool:
        found[:] = _children(lab.launcher_pid)
        return len(found) == 1 and Path(f"/proc/{found[0]}/comm").read_text().strip() == _MONITOR

    await eventually(waits)
    return found[0]


def test_the_monitor_in_advance_is_the_containers(lab: Lab) -> None:
    async def test() -> None:
        spare = await _spare(lab)
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        assert container.pid in _children(spare)
        await container.signal(9)
        assert (await container.exited).code == 137

    lab.run(test)


def test_a_killed_spare_is_done_without(lab: Lab) -> None:
    async def test() -> None:
        spare = await _spare(lab)
        os.kill(spare, signal.SIGKILL)
        await eventually(lambda: not is_alive(spare))
        request = lab.request(make_document(["echo", "here"]))
        assert (await (await lab.start(request)).exited).code == 0
        assert log_text(request) == "here\n"

    lab.run(test)


def test_a_killed_process_1_in_advance_is_done_without(lab: Lab) -> None:
    async def test() -> None:
        _needs_a_prepared_process(lab)
        spare = await _spare(lab)
        await eventually(lambda: len(_children(spare)) == 1)
        prepared = _children(spare)
        for child in prepared:
            os.kill(child, signal.SIGKILL)
        await eventually(lambda: not any(is_alive(child) for child in prepared))
        request = lab.request(make_document(["echo", "here"]))
        assert (await (await lab.start(request)).exited).code == 0
        assert log_text(request) == "here\n"

    lab.run(test)


def test_who_joins_another_pid_namespace_leaves_the_prepared_one(lab: Lab) -> None:
    async def test() -> None:
        _needs_a_prepared_process(lab)
        first = await lab.start(lab.request(make_document(["sleep", "100"])))
        spare = await _spare_beside(lab, first.pid)
        document = make_document(["sh", "-c", "readlink /proc/self/ns/pid"])
        for entry in document["linux"]["namespaces"]:
            if entry["type"] == "pid":
                entry["path"] = f"/proc/{first.pid}/ns/pid"
        request = lab.request(document)
        assert (await (await lab.start(request)).exited).code == 0
        assert log_text(request).strip() == os.readlink(f"/proc/{first.pid}/ns/pid")
        assert not is_alive(spare)
        await first.signal(9)
        await first.exited

    lab.run(test)


async def _spare_beside(lab: Lab, running: int) -> int:
    """The process 1 in advance of the monitor that doesn't rule a running container."""
    found: list[int] = []

    def waits() -> bool:
        monitors = [pid for pid in _children(lab.launcher_pid) if running not in _children(pid)]
        found[:] = [child for pid in monitors for child in _children(pid)]
        return len(found) == 1

    await eventually(waits)
    return found[0]


def test_a_process_that_failed_before_it_may_proceed_is_heard() -> None:
    ours, theirs = new_socketpair()
    starter, other = new_socketpair()
    failure = {"failed": "system", "message": "no such thing", "code": 128}
    try:
        send(theirs, failure)
        theirs.close()
        child = Child(0, -1, ours)
        proceed(child)
        assert child.wait_until_executed(starter.fileno()) == (failure, -1)
    finally:
        for end in (ours, starter, other):
            end.close()

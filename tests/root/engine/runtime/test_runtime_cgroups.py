"""Limits by control groups, on whichever version this machine has, and the version 2 device filter where it can be tried."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runtime_lab import Lab, cgroups_left, make_document, make_process, read_until

from kitepy.engine.kernel.cgroups import detect
from kitepy.engine.kernel.cgroups_v2 import CgroupV2, find_unified
from kitepy.engine.kernel.device_filter import attach_device_filter
from kitepy.engine.kernel.namespaces import fork_with_pidfd
from kitepy.engine.model.errors import Unsupported
from kitepy.engine.model.ids import new_id
from kitepy.engine.runtime.client import ExecRequest
from kitepy.engine.runtime.plan import DEFAULT_DEVICE_RULES
from kitepy.engine.runtime.streams import AttachWish


def test_the_number_of_processes_is_limited(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["linux"]["resources"] = {"pids": {"limit": 5}}
        output, _ = await lab.shell("for i in 1 2 3 4 5 6 7 8; do sleep 10 & done", document)
        assert "can't fork: Resource temporarily unavailable" in output

    lab.run(test)


def test_running_out_of_memory_is_reported(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["linux"]["resources"] = {"memory": {"limit": 16 << 20}}
        _, status = await lab.shell("x=a; while :; do x=$x$x; done", document)
        assert status.oom_killed
        assert status.code == 137

    lab.run(test)


def test_limits_change_while_running_and_stats_are_counted(lab: Lab) -> None:
    async def test() -> None:
        document = make_document(["sh", "-c", "echo up; sleep 100"])
        document["linux"]["resources"] = {"cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}
        container = await lab.start(lab.request(document), [AttachWish()])
        await read_until(container.attached[0], b"up")
        await container.update_limits({"pids": {"limit": 7}})
        stats = lab.cgroups.stats(container.cgroup_path)
        assert stats["pids"]["pids.max"] == "7\n"
        assert int(stats["pids"]["pids.current"]) >= 1
        assert stats["memory"]
        assert container.pid in lab.cgroups.pids(container.cgroup_path)

    lab.run(test)


def test_a_limit_the_kernel_lacks_is_refused_by_name(lab: Lab) -> None:
    async def test() -> None:
        document = make_document(["true"])
        document["linux"]["resources"] = {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}
        request = lab.request(document)
        with pytest.raises(Unsupported, match="hugepage"):
            await lab.start(request)
        assert cgroups_left(request.container_id) == []

    lab.run(test)


def test_an_exec_is_counted_in_the_container_s_group(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        running = await container.exec(ExecRequest("x", make_process(["sh", "-c", "echo up; sleep 100"])))
        await read_until(running, b"up")
        assert running.pid in lab.cgroups.pids(container.cgroup_path)

    lab.run(test)


def test_the_monitor_is_not_counted_in_the_container_s_group(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        assert lab.cgroups.pids(container.cgroup_path) == [container.pid]

    lab.run(test)


@pytest.mark.parametrize(
    ("rules", "opens"),
    [
        ([], False),
        ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}], True),
        ([{"allow": True, "access": "rwm"}], True),
    ],
)
def test_device_rules_decide_what_can_be_opened(lab: Lab, rules: list[dict[str, object]], opens: bool) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("this kernel has no /dev/fuse to try with")

    async def test() -> None:
        document = make_document([])
        document["linux"]["resources"] = {"devices": rules}
        output, _ = await lab.shell("mknod /tmp/fuse c 10 229; : < /tmp/fuse && echo opened", document)
        assert output == ("opened\n" if opens else "sh: can't open /tmp/fuse: Operation not permitted\n")

    lab.run(test)


@pytest.fixture
def unified() -> Iterator[tuple[CgroupV2, str]]:
    """A group in the version 2 hierarchy, which machines with version 1 mount beside it."""
    root = find_unified(Path("/proc/self/mountinfo").read_text())
    if root is None:
        pytest.skip("no cgroup2 hierarchy is mounted below /sys/fs/cgroup")
    driver = CgroupV2(root)
    path = f"/kitepy-test-{new_id()[:12]}"
    driver.create(path, {})
    yield driver, path
    driver.kill(path)
    driver.remove(path)


def _outcomes_inside(driver: CgroupV2, path: str, directory: Path) -> dict[str, bool]:
    """Whether each device could be opened for reading by a child inside the group."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        driver.join(path)
        for name in ("null", "mem", "kmsg"):
            try:
                os.close(os.open(directory / name, os.O_RDONLY))
                os.write(write_end, b"+")
            except OSError:
                os.write(write_end, b"-")
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    answer = os.read(read_end, 10).decode()
    os.close(read_end)
    return dict(zip(("null", "mem", "kmsg"), [mark == "+" for mark in answer], strict=True))


def test_the_version_2_device_filter_refuses_what_is_not_listed(unified: tuple[CgroupV2, str], tmp_path: Path) -> None:
    driver, path = unified
    for name, number in (("null", (1, 3)), ("mem", (1, 1)), ("kmsg", (1, 11))):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(*number))
    deny: dict[str, object] = {"allow": False, "access": "rwm"}
    kmsg: dict[str, object] = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    root = find_unified(Path("/proc/self/mountinfo").read_text())
    fd = os.open(f"{root}{path}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        attach_device_filter(fd, [deny, *DEFAULT_DEVICE_RULES])
        assert _outcomes_inside(driver, path, tmp_path) == {"null": True, "mem": False, "kmsg": False}
        attach_device_filter(fd, [deny, kmsg, *DEFAULT_DEVICE_RULES])
        assert _outcomes_inside(driver, path, tmp_path) == {"null": True, "mem": False, "kmsg": True}
        attach_device_filter(fd, [deny, kmsg, {**kmsg, "allow": False}, *DEFAULT_DEVICE_RULES])
        assert _outcomes_inside(driver, path, tmp_path) == {"null": True, "mem": False, "kmsg": False}
    finally:
        os.close(fd)


def test_version_2_children_are_born_in_their_group(unified: tuple[CgroupV2, str]) -> None:
    driver, path = unified
    fd = driver.spawn_fd(path)
    assert fd is not None
    pid, pidfd = fork_with_pidfd(fd)
    if not pid:
        os.execv("/bin/sleep", ["sleep", "100"])  # noqa: S606 - a program to look at
    assert driver.pids(path) == [pid]
    driver.kill(path)
    assert os.waitpid(pid, 0)[1] == 9
    os.close(pidfd)
    os.close(fd)


def test_version_2_freezes_and_kills(unified: tuple[CgroupV2, str]) -> None:
    driver, path = unified
    pid = os.fork()
    if not pid:
        driver.join(path)
        os.execv("/bin/sleep", ["sleep", "100"])  # noqa: S606 - a program to freeze
    while pid not in driver.pids(path):
        os.sched_yield()
    driver.freeze(path)
    driver.kill(path)
    assert os.waitpid(pid, 0)[1] == 9


def test_this_machine_s_driver_names_its_controllers() -> None:
    assert {"memory", "pids", "cpu"} <= detect().controllers()

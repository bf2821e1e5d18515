"""Containers in a user namespace of their own: real processes, looked at from both sides."""

from __future__ import annotations

import copy
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from support.runtime_lab import Lab, cgroups_left, make_document, make_process, read_all, read_until

from kitepy.engine.kernel.capabilities import NAMES, NUMBERS, last_capability, own_permitted
from kitepy.engine.kernel.namespaces import owner_of
from kitepy.engine.model.errors import StartFailed, SystemFailure
from kitepy.engine.runtime.client import ExecRequest, RunningContainer
from kitepy.engine.runtime.streams import AttachWish, StreamKind

FIRST = 200_000
MAPPINGS = [{"containerID": 0, "hostID": FIRST, "size": 65_536}]


def remapped(script: str = "true", **process_changes: Any) -> dict[str, Any]:
    """A default document, in a user namespace whose root is ``FIRST`` outside."""
    document = make_document(["sh", "-c", script], **process_changes)
    document["linux"]["namespaces"].append({"type": "user"})
    document["linux"]["uidMappings"] = copy.deepcopy(MAPPINGS)
    document["linux"]["gidMappings"] = copy.deepcopy(MAPPINGS)
    return document


def status_of(pid: int) -> dict[str, str]:
    """The lines of ``/proc/<pid>/status``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def with_mount(document: dict[str, Any], source: Path, *options: str) -> dict[str, Any]:
    document["mounts"].append({"destination": "/v", "type": "bind", "source": str(source), "options": ["rbind", *options]})
    return document


def test_root_inside_is_an_ordinary_user_outside(lab: Lab) -> None:
    async def body() -> None:
        container = await lab.start(lab.request(remapped(args := "read line"), stdin=True))
        assert args
        found = status_of(container.pid)
        assert found["Uid"].split() == [str(FIRST)] * 4
        assert found["Gid"].split() == [str(FIRST)] * 4
        assert found["Groups"].split() in ([], [str(FIRST)])
        assert found["NSpid"].split()[1:] == ["1"]
        for name in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{container.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name

    lab.run(body)


def test_every_namespace_belongs_to_the_user_namespace(lab: Lab) -> None:
    """So that its root may mount, name and configure within them."""

    async def body() -> None:
        container = await lab.start(lab.request(remapped("read line"), stdin=True))
        own = os.stat(f"/proc/{container.pid}/ns/user")
        for name in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
            fd = os.open(f"/proc/{container.pid}/ns/{name}", os.O_RDONLY)
            owner_fd = owner_of(fd)
            assert os.fstat(owner_fd).st_ino == own.st_ino, name
            os.close(owner_fd)
            os.close(fd)

    lab.run(body)


def test_files_have_their_usual_owners_inside_and_on_the_disk(lab: Lab) -> None:
    (lab.layer / "etc").mkdir()
    (lab.layer / "etc" / "old").write_text("old")
    os.chown(lab.layer / "etc" / "old", 33, 44)
    (lab.layer / "etc" / "doomed").write_text("")

    async def body() -> None:
        request = lab.request(
            remapped(
                "stat -c %u:%g / /bin /etc/old; echo x >>/etc/old; touch /new; mkdir /d; touch /d/f; chown 7:8 /d/f;"
                "rm /etc/doomed; rm -r /tmp; mkdir /tmp; ln -s a /link; mv /d/f /d/g; stat -c %u:%g /new /d/g /etc/old; ls /etc"
            )
        )
        container = await lab.start(request, [AttachWish()])
        output = await read_all(container.attached[0])
        assert (await container.exited).code == 0, output
        expected = ["0:0", "0:0", "33:44", "0:0", "7:8", "33:44", "old"]
        assert (output[StreamKind.STDOUT].split(), output[StreamKind.STDERR]) == (expected, "")
        upper = lab.base / "containers" / request.container_id / "upper"
        found = {name: (upper / name).lstat() for name in ("new", "d/g", "etc/old", "etc/doomed", "link", "tmp")}
        owners = {name: (status.st_uid, status.st_gid) for name, status in found.items()}
        assert owners == {"new": (0, 0), "d/g": (7, 8), "etc/old": (33, 44), "etc/doomed": (0, 0), "link": (0, 0), "tmp": (0, 0)}
        assert stat.S_ISCHR(found["etc/doomed"].st_mode)
        assert found["etc/doomed"].st_rdev == 0
        assert os.getxattr(upper / "tmp", "trusted.overlay.opaque") == b"y"

    lab.run(body)


def test_execs_join_the_user_namespace(lab: Lab) -> None:
    async def body() -> None:
        container = await lab.start(lab.request(remapped("read line"), stdin=True))
        process = await container.exec(
            ExecRequest("e", make_process(["sh", "-c", "id -u; cat /proc/self/uid_map; touch /x && stat -c %u /x; sleep 100"]))
        )
        text = await read_until(process, b"\n0\n")
        assert text.split()[:4] == [b"0", b"0", str(FIRST).encode(), b"65536"]
        assert status_of(process.pid)["Uid"].split() == [str(FIRST)] * 4
        assert os.readlink(f"/proc/{process.pid}/ns/pid") == os.readlink(f"/proc/{container.pid}/ns/pid")
        assert os.readlink(f"/proc/{process.pid}/ns/user") == os.readlink(f"/proc/{container.pid}/ns/user")

    lab.run(body)


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_user_may_open_its_streams_again(lab: Lab, uid: int) -> None:
    async def body() -> None:
        document = remapped()
        document["process"]["user"] = {"uid": uid, "gid": uid}
        text, ended = await lab.shell("echo out >/dev/stdout; echo err >/dev/stderr; stat -L -c %u /proc/self/fd/1", document)
        assert (sorted(text.split()), ended.code) == (sorted(["out", "err", str(uid)]), 0)

    lab.run(body)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_terminal_belongs_to_the_user(lab: Lab, uid: int) -> None:
    async def body() -> None:
        document = remapped("tty; stat -c %u $(tty); stty size; read line", terminal=True)
        document["process"]["user"] = {"uid": uid, "gid": 0}
        document["process"]["consoleSize"] = {"height": 33, "width": 77}
        container = await lab.start(lab.request(document, stdin=True), [AttachWish()])
        text = await read_until(container.attached[0], b"33 77")
        assert text.split()[:2] == [b"/dev/pts/0", str(uid).encode()]

    lab.run(body)


def test_devices_work_and_are_the_hosts(lab: Lab) -> None:
    async def body() -> None:
        text, ended = await lab.shell(
            "echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c;"
            "ls -l /dev/full /dev/tty | wc -l;"
            "stat -c %t:%T /dev/null; mknod /tmp/n c 1 3 2>&1 | grep -c 'not permitted';"
            "ls -la /dev/mqueue >/dev/null && ls /sys/class/net",
            remapped(),
        )
        assert (text.split(), ended.code) == (["4", "4", "2", "1:3", "1", "lo"], 0)

    lab.run(body)


def test_a_hard_limit_is_raised_while_the_hosts_root_may(lab: Lab) -> None:
    """Root of another user namespace may not: it is done before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = min(hard * 2, int(Path("/proc/sys/fs/nr_open").read_text()))
    if not own_permitted() & 1 << NUMBERS["CAP_SYS_RESOURCE"]:
        pytest.skip("the test process itself may not raise hard limits: it lacks CAP_SYS_RESOURCE")

    async def body() -> None:
        document = remapped(oomScoreAdj=-500, rlimits=[{"type": "RLIMIT_NOFILE", "soft": soft, "hard": more}])
        text, ended = await lab.shell("cat /proc/self/oom_score_adj; ulimit -Hn", document)
        assert (text.split(), ended.code) == (["-500", str(more)], 0)

    lab.run(body)


def test_limits_and_scores_are_set(lab: Lab) -> None:
    async def body() -> None:
        document = remapped(oomScoreAdj=500, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])
        text, ended = await lab.shell("cat /proc/self/oom_score_adj; ulimit -Hn; ulimit -Sn", document)
        assert (text.split(), ended.code) == (["500", "200", "100"], 0)

    lab.run(body)


def test_kernel_parameters_of_its_namespaces_can_be_set(lab: Lab) -> None:
    async def body() -> None:
        document = remapped()
        document["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
        text, _ = await lab.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced; hostname", document)
        assert text.split() == ["1", "1", "lab"]

    lab.run(body)


def test_a_mapped_mount_keeps_usual_ids_on_the_disk(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("open sesame")
    (tmp_path / "secret").chmod(0o600)

    async def body() -> None:
        text, ended = await lab.shell(
            "cat /v/secret; echo; stat -c %u /v; touch /v/new", with_mount(remapped(), tmp_path, "idmap")
        )
        assert (text.split(), ended.code) == (["open", "sesame", "0"], 0)
        assert (tmp_path / "new").stat().st_uid == 0

    lab.run(body)


def test_root_inside_has_no_rights_over_the_hosts_files(lab: Lab, tmp_path: Path) -> None:
    """The attack that remapping is for: root of a container goes at a file of the host's root through a bind mount."""
    (tmp_path / "mine").write_text("host's")
    (tmp_path / "mine").chmod(0o600)
    (tmp_path / "public").write_text("host's")
    tmp_path.chmod(0o755)

    async def body() -> None:
        text, _ = await lab.shell(
            "exec 2>/dev/null; cat /v/mine || echo unread; (echo evil >/v/public) || echo unwritten;"
            "(chmod 4777 /v/public) || echo kept;"
            "(chown 0 /v/public) || echo owned; (touch /v/new) || echo closed; (rm -f /v/mine; ls /v/mine); stat -c %u /v/public",
            with_mount(remapped(), tmp_path),
        )
        assert text.split() == ["unread", "unwritten", "kept", "owned", "closed", "/v/mine", "65534"]
        assert (tmp_path / "public").read_text() == "host's"

    lab.run(body)


def test_every_capability_inside_gives_none_over_the_host(lab: Lab) -> None:
    everything = [name for name in NAMES if NUMBERS[name] <= last_capability()]

    async def body() -> None:
        document = remapped()
        document["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), everything)
        document["linux"]["readonlyPaths"] = []
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        text, _ = await lab.shell(
            "exec 2>/dev/null; grep CapEff /proc/self/status | cut -c 8-;"
            "(echo x >/proc/sys/kernel/core_pattern) || echo pattern;"
            "mknod /tmp/sda b 8 0 || echo node; (echo b >/proc/sysrq-trigger) || echo sysrq;"
            "date -s 2001-01-01 2>&1 | grep -q 'not permitted' && echo clock;"
            "mount -t ext4 /dev/vda /tmp || echo disk; swapoff -a; dmesg -n 1 || echo log; mount -t tmpfs none /tmp && echo own;"
            "umount /tmp && echo freed; mount -t proc proc /tmp && echo proc",
            document,
            seccomp=b"",
        )
        words = text.split()
        assert int(words[0], 16) == sum(1 << NUMBERS[name] for name in everything)
        for refused in ("pattern", "node", "sysrq", "clock", "disk", "log"):
            assert refused in words, text
        for allowed in ("own", "freed", "proc"):
            assert allowed in words, text
        assert Path("/proc/sys/kernel/core_pattern").read_text() == before

    lab.run(body)


def test_a_start_that_fails_inside_leaves_nothing(lab: Lab) -> None:
    async def body() -> None:
        request = lab.request(remapped())
        document = remapped()
        document["process"]["args"] = ["/nonesuch"]
        request = lab.request(document)
        with pytest.raises(StartFailed, match="no such file"):
            await lab.start(request)
        assert cgroups_left(request.container_id) == []

    lab.run(body)


def test_a_directory_is_only_mapped_where_its_file_system_can(lab: Lab) -> None:
    async def body() -> None:
        with pytest.raises(SystemFailure, match="can't show mapped ids"):
            await lab.start(lab.request(with_mount(remapped(), Path("/proc/sys"), "idmap")))

    lab.run(body)


def test_signals_pause_and_adoption_reach_a_remapped_container(lab: Lab) -> None:
    async def body() -> None:
        request = lab.request(remapped("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"))
        container = await lab.start(request, [AttachWish()])
        await read_until(container.attached[0], b"ready")
        container.release()
        lab.forget(container)
        adopted = await lab.runtime.adopt(request.container_id, request.state_dir)
        assert isinstance(adopted, RunningContainer)
        await adopted.pause()
        await adopted.unpause()
        await adopted.signal(15)
        assert (await adopted.exited).code == 7

    lab.run(body)

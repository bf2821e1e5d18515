"""Starting containers: what a process finds, how starts fail, what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from support.runtime_lab import Lab, cgroups_left, eventually, log_entries, make_document, read_all

from kitepy.engine.model.errors import StartFailed, SystemFailure
from kitepy.engine.model.launch import LogTarget, OverlayRoot
from kitepy.engine.runtime.streams import AttachWish, StreamKind


def test_a_process_runs_with_its_name_directory_environment_and_exit_code(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([], cwd="/made/for/it", env=["PATH=/bin", "COLOUR=blue=green"])
        output, status = await lab.shell("hostname; pwd; echo $COLOUR; echo pid $$; exit 7", document)
        assert output == "lab\n/made/for/it\nblue=green\npid 1\n"
        assert status.code == 7
        assert not status.oom_killed

    lab.run(test)


def test_a_signal_ends_with_128_and_its_number(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        await container.signal(9)
        assert (await container.exited).code == 137

    lab.run(test)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nonesuch"], 127, 'exec: "nonesuch": executable file not found in $PATH'),
        (["/nonesuch"], 127, 'exec: "/nonesuch": stat /nonesuch: no such file or directory'),
        (["/bin"], 126, 'exec: "/bin": permission denied'),
        (["/plain"], 126, 'exec: "/plain": permission denied'),
        (["/orphan"], 127, "exec /orphan: no such file or directory"),
        (["/nonsense"], 126, "exec /nonsense: exec format error"),
    ],
)
def test_a_program_that_cannot_run_fails_the_start_in_docker_s_words(lab: Lab, args: list[str], code: int, words: str) -> None:
    (lab.layer / "plain").write_text("text")
    for name, text in (("orphan", "#!/no/such/interpreter\n"), ("nonsense", "neither script nor program")):
        (lab.layer / name).write_text(text)
        (lab.layer / name).chmod(0o755)

    async def test() -> None:
        request = lab.request(make_document(args))
        with pytest.raises(StartFailed) as caught:
            await lab.start(request)
        assert caught.value.exit_code == code
        prefix = (
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
        )
        assert str(caught.value) == f"{prefix}unable to start container process: {words}"
        assert cgroups_left(request.container_id) == []
        assert not (request.state_dir / "monitor.sock").exists()

    lab.run(test)


def test_nothing_but_the_exit_status_is_left_after_the_end(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["true"]))
        status = await (await lab.start(request)).exited
        assert json.loads((request.state_dir / "exit.json").read_text()) == {
            "code": 0,
            "finished_at_ns": status.finished_at_ns,
            "oom_killed": False,
        }
        assert cgroups_left(request.container_id) == []
        assert str(lab.base) not in Path("/proc/self/mountinfo").read_text()
        assert (request.state_dir / "monitor.log").read_text() == ""

    lab.run(test)


def test_the_same_container_starts_again_at_once(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "echo x >> /kept; wc -l < /kept"]), log="json-file")
        for _ in range(5):
            await (await lab.start(request)).exited
        assert [entry["log"] for entry in log_entries(request)] == ["1\n", "2\n", "3\n", "4\n", "5\n"]

    lab.run(test)


def test_128_layers_mount(lab: Lab) -> None:
    for number in range(2, 130):
        layer = lab.base / "layers" / str(number) / "diff"
        layer.mkdir(parents=True, exist_ok=True)
        (layer / f"file{number}").write_text("x")

    async def test() -> None:
        request = lab.request(make_document([]))
        assert request.rootfs is not None
        lower = tuple(f"layers/{number}/diff" for number in range(128, 0, -1))
        output, _ = await lab.shell("ls / | grep -c file", rootfs=replace(request.rootfs, lower=lower, **_writable(lab)))
        assert output == "127\n"

    lab.run(test)


def _writable(lab: Lab) -> dict[str, str]:
    for name in ("upper", "work"):
        (lab.base / "own" / name).mkdir(parents=True)
    return {"upper": "own/upper", "work": "own/work"}


def test_a_single_layer_without_an_upper_one_is_read_only(lab: Lab) -> None:
    async def test() -> None:
        for name in ("proc", "sys", "dev"):
            (lab.layer / name).mkdir()
        output, _ = await lab.shell("echo no > /file; true", rootfs=OverlayRoot(lab.base, ("layers/1/diff",)))
        assert "Read-only file system" in output

    lab.run(test)


def test_a_read_only_root_leaves_mounts_writable(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["root"]["readonly"] = True
        output, _ = await lab.shell("echo no > /file; echo yes > /dev/shm/file; cat /dev/shm/file", document)
        assert "can't create /file: Read-only file system" in output
        assert "yes\n" in output

    lab.run(test)


def test_bind_mounts_appear_with_their_options(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("from the host\n")

    async def test() -> None:
        document = make_document([])
        document["mounts"] += [
            {"destination": "/a/b", "type": "bind", "source": str(tmp_path / "source"), "options": ["rbind", "rprivate"]},
            {"destination": "/ro", "type": "bind", "source": str(tmp_path / "source"), "options": ["rbind", "ro"]},
            {"destination": "/etc/one", "type": "bind", "source": str(tmp_path / "source" / "file"), "options": ["bind", "ro"]},
        ]
        output, _ = await lab.shell("cat /etc/one; echo new > /a/b/new; cat /ro/new; echo no > /ro/no", document)
        assert output == "from the host\nnew\nsh: can't create /ro/no: Read-only file system\n"
        assert (tmp_path / "source" / "new").read_text() == "new\n"

    lab.run(test)


def test_a_directory_on_a_file_is_explained_with_127(lab: Lab, tmp_path: Path) -> None:
    async def test() -> None:
        document = make_document(["true"])
        document["mounts"].append({"destination": "/bin/busybox", "type": "bind", "source": str(tmp_path), "options": ["rbind"]})
        with pytest.raises(StartFailed, match="mount a directory onto a file") as caught:
            await lab.start(lab.request(document))
        assert caught.value.exit_code == 127

    lab.run(test)


def test_an_rshared_volume_shows_the_host_what_is_mounted_in_it_and_a_private_one_does_not(lab: Lab, tmp_path: Path) -> None:
    async def test() -> None:
        for propagation, seen in (("rshared", True), ("rprivate", False)):
            source = tmp_path / propagation
            source.mkdir()
            # A mount of its own in a private namespace can't be had from here, so look at the peer groups instead.
            document = make_document([])
            document["mounts"].append(
                {"destination": "/v", "type": "bind", "source": str(source), "options": ["rbind", propagation]}
            )
            output, _ = await lab.shell("grep ' /v ' /proc/self/mountinfo", document)
            assert ("shared:" in output) is seen

    lab.run(test)


def test_another_user_runs_without_capabilities_and_may_write_to_its_own_output(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([], user={"uid": 1000, "gid": 1001, "additionalGids": [1002]})
        script = "id -u; id -G; grep CapEff /proc/self/status; echo out > /dev/stdout; echo err > /dev/stderr"
        output, status = await lab.shell(script, document)
        assert output == "1000\n1001 1002\nCapEff:\t0000000000000000\nout\nerr\n"
        assert status.code == 0

    lab.run(test)


def test_ambient_capabilities_reach_another_user(lab: Lab) -> None:
    async def test() -> None:
        names = ["CAP_NET_BIND_SERVICE"]
        sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), names)
        document = make_document([], user={"uid": 1000, "gid": 1000}, capabilities=sets)
        output, _ = await lab.shell("grep -E 'Cap(Eff|Amb|Bnd)' /proc/self/status", document)
        assert output == "".join(f"Cap{name}:\t0000000000000400\n" for name in ("Eff", "Bnd", "Amb"))

    lab.run(test)


def test_limits_apply_and_an_impossible_one_is_explained(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([], rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])
        output, _ = await lab.shell("ulimit -n; ulimit -Hn", document)
        assert output == "100\n200\n"
        document = make_document(["true"], rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2**40}])
        with pytest.raises((StartFailed, SystemFailure), match="RLIMIT_NOFILE"):
            await lab.start(lab.request(document))

    lab.run(test)


def test_kernel_parameters_of_the_container_s_namespaces_are_set(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "8193"}
        output, _ = await lab.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", document)
        assert output == "0\n8193\n"
        document["linux"]["sysctl"] = {"net.nonesuch": "1"}
        with pytest.raises(SystemFailure, match=r"sysctl net\.nonesuch: no such kernel parameter"):
            await lab.shell("true", document)

    lab.run(test)


def test_a_given_network_namespace_is_joined(lab: Lab) -> None:
    found: list[int] = []

    def make() -> None:
        from kitepy.engine.kernel.namespaces import CLONE_NEWNET, unshare

        unshare(CLONE_NEWNET)
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()

    async def test() -> None:
        output, _ = await lab.shell("readlink /proc/self/ns/net", netns_fd=found[0])
        assert output == f"net:[{os.fstat(found[0]).st_ino}]\n"

    try:
        lab.run(test)
    finally:
        os.close(found[0])


def test_devices_and_links_of_dev_are_there(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["linux"]["devices"] = [
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 6}
        ]
        script = "head -c 2 /dev/zero | wc -c; stat -c '%a %u %g %t:%T' /dev/mine; readlink /dev/fd; echo e > /dev/fd/1"
        output, _ = await lab.shell(script, document)
        assert output == "2\n600 5 6 1:3\n/proc/self/fd\ne\n"

    lab.run(test)


def test_a_terminal_is_the_controlling_one_and_the_console(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([], terminal=True, consoleSize={"height": 31, "width": 97})
        output, _ = await lab.shell(
            "tty; stty size; echo via > /dev/console; echo tty > /dev/tty; stat -c %F /dev/console", document
        )
        assert output == "/dev/pts/0\r\n31 97\r\nvia\r\ntty\r\ncharacter special file\r\n"

    lab.run(test)


def test_a_resize_reaches_the_terminal(lab: Lab) -> None:
    async def test() -> None:
        document = make_document(["sh", "-c", "read x; stty size"], terminal=True)
        container = await lab.start(lab.request(document, stdin=True), [AttachWish(stdin=True)])
        await container.resize(40, 120)
        await container.attached[0].write(b"go\n")
        output = await read_all(container.attached[0])
        assert output[StreamKind.STDOUT].endswith("40 120\r\n")

    lab.run(test)


def test_the_state_directory_is_private(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        assert stat.S_IMODE((container.state_dir / "monitor.sock").stat().st_mode) == 0o600

    lab.run(test)


def test_log_driver_none_writes_nothing(lab: Lab) -> None:
    async def test() -> None:
        output, _ = await lab.shell("echo hello", log="none")
        assert output == "hello\n"
        assert list(lab.base.glob("containers/*/log.json")) == []

    lab.run(test)


def test_an_unwritable_log_fails_the_start(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["true"]))
        with pytest.raises(SystemFailure, match="nonesuch"):
            await lab.start(replace(request, log=LogTarget(lab.base / "nonesuch" / "log")))

    lab.run(test)


def test_a_plain_directory_serves_as_root(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "echo x > /written; ls /"]), rootfs=None)
        plain = request.bundle / "rootfs"
        plain.rmdir()
        lab.layer.rename(plain)
        container = await lab.start(request, [AttachWish()])
        assert "written" in (await read_all(container.attached[0]))[StreamKind.STDOUT]
        assert (plain / "written").read_text() == "x\n"

    lab.run(test)


def test_without_a_pid_namespace_the_children_end_with_process_1(lab: Lab) -> None:
    async def test() -> None:
        document = make_document(["sh", "-c", "sleep 1000 & echo $!; exit 6"])
        document["linux"]["namespaces"] = [entry for entry in document["linux"]["namespaces"] if entry["type"] != "pid"]
        container = await lab.start(lab.request(document), [AttachWish()])
        child = int((await read_all(container.attached[0]))[StreamKind.STDOUT])
        assert (await container.exited).code == 6
        await eventually(lambda: not _is_sleeping(child))

    lab.run(test)


def _is_sleeping(pid: int) -> bool:
    try:
        return b"sleep\0001000" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_a_small_memory_limit_is_enough_to_start(lab: Lab) -> None:
    async def test() -> None:
        document = make_document([])
        document["linux"]["resources"] = {"memory": {"limit": 6 << 20}}
        output, status = await lab.shell("echo fits", document)
        assert (output, status.code) == ("fits\n", 0)

    lab.run(test)


def test_a_cancelled_start_leaves_nothing_running(lab: Lab) -> None:
    async def test() -> None:
        for delay_s in (0.0, 0.001, 0.003, 0.006, 0.009, 0.012):
            await cancel_after(delay_s)

    async def cancel_after(delay_s: float) -> None:
        request = lab.request(make_document(["sleep", "1000"]))
        starting = asyncio.ensure_future(lab.runtime.start(request))
        await asyncio.sleep(delay_s)
        if not starting.cancel():
            await (await starting).signal(9)
            return
        await asyncio.wait([starting])
        await eventually(lambda: cgroups_left(request.container_id) == [] and not _monitors_in(request.state_dir))
        assert not (request.state_dir / "monitor.sock").exists()

    lab.run(test)


def _monitors_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(directory):
                found.append(entry.name)
        except OSError:
            continue
    return found

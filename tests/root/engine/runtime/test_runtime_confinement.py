"""What a default container must not be able to do, and what hostile images must not achieve."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from support.runtime_lab import Lab, default_seccomp, make_document, make_process, read_all

from kitepy.engine.kernel import syscalls
from kitepy.engine.model.errors import EngineError, SystemFailure
from kitepy.engine.runtime.client import ExecRequest
from kitepy.engine.runtime.streams import AttachWish, StreamKind


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A static program that makes one raw system call and prints the outcome."""
    source = tmp_path / "probe.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <errno.h>\n"
        "#include <unistd.h>\n#include <sys/syscall.h>\n"
        "int main(int c, char **v) { long a[6] = {0}; for (int i = 2; i < c; i++) a[i - 2] = strtol(v[i], 0, 0);"
        " long r = syscall(atol(v[1]), a[0], a[1], a[2], a[3], a[4], a[5]);"
        ' if (r < 0) puts(strerror(errno)); else puts("ok"); return 0; }\n'
    )
    program = tmp_path / "probe"
    subprocess.run(["cc", "-static", "-o", str(program), str(source)], check=True)
    return program


def test_privileged_operations_are_refused(lab: Lab) -> None:
    async def test() -> None:
        script = (
            "unshare -U true; mount -t tmpfs none /tmp; umount /proc; hostname other; echo b > /proc/sysrq-trigger; "
            "echo 1 > /proc/sys/kernel/panic; date -s 2000-01-01; chroot / true; echo $?"
        )
        output, _ = await lab.shell(script)
        assert "unshare: unshare(0x10000000): Operation not permitted" in output
        assert "mount: permission denied" in output
        assert "can't unmount /proc" in output
        assert "sethostname: Operation not permitted" in output
        assert "can't create /proc/sysrq-trigger: " in output  # read-only, or not even built into this kernel
        assert "can't create /proc/sys/kernel/panic: Read-only file system" in output
        assert "can't set date: Operation not permitted" in output
        assert "\n0\n" in output  # chroot is one of the default capabilities

    lab.run(test)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers below are those of x86-64")
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("250 0 0 0", "Operation not permitted"),  # keyctl
        ("248 0 0 0 0 0", "Operation not permitted"),  # add_key
        ("321 0 0 0", "Operation not permitted"),  # bpf
        ("298 0 0 0 0 0", "Operation not permitted"),  # perf_event_open
        ("425 1 0", "Operation not permitted"),  # io_uring_setup
        ("56 0x10000000 0", "Operation not permitted"),  # clone with CLONE_NEWUSER
        ("56 0x00020011 0", "Operation not permitted"),  # clone with CLONE_NEWNS
        ("435 0 0", "Function not implemented"),  # clone3
        ("272 0", "Operation not permitted"),  # unshare of nothing
        ("246 0 0 0 0", "Operation not permitted"),  # kexec_load
        ("135 0x20000", "ok"),  # personality PER_LINUX32-less ADDR_NO_RANDOMIZE family
        ("135 0x40000", "Operation not permitted"),  # any other personality
        ("41 40 1 0", "Operation not permitted"),  # socket AF_VSOCK
        ("41 2 1 0", "ok"),  # socket AF_INET
        ("451 999 0 0 0", "Bad file descriptor"),  # cachestat: newer than libseccomp 2.5, allowed
        ("452 999 0 0 0", "Bad file descriptor"),  # fchmodat2, or EFAULT
        ("467 0 0 0", "Function not implemented"),  # open_tree_attr: newer than the profile
        ("999 0 0 0", "Function not implemented"),  # no such call: programs probe for ENOSYS
    ],
)
def test_system_calls_are_filtered(lab: Lab, probe: Path, call: str, answer: str) -> None:
    (lab.layer / "probe").write_bytes(probe.read_bytes())
    (lab.layer / "probe").chmod(0o755)

    async def test() -> None:
        output, _ = await lab.shell(f"/probe {call}")
        allowed = {answer} | ({"Bad address"} if call.startswith("452") else set())
        assert output.strip() in allowed

    lab.run(test)


def test_no_host_mount_is_visible(lab: Lab) -> None:
    async def test() -> None:
        output, _ = await lab.shell("cat /proc/self/mountinfo")
        kinds = {line.split(" - ")[1].split()[0] for line in output.splitlines()}
        assert kinds <= {"overlay", "proc", "tmpfs", "devpts", "sysfs", "cgroup", "cgroup2", "mqueue"}
        assert "/etc" not in output

    lab.run(test)


def test_no_descriptor_leaks_into_the_process(lab: Lab) -> None:
    async def test() -> None:
        # The last one is the directory that ls itself has open.
        output, _ = await lab.shell("ls /proc/self/fd; ls -l /proc/self/fd/3")
        assert output.startswith("0\n1\n2\n3\nls: /proc/self/fd/3: No such file or directory")
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
        running = await container.exec(
            ExecRequest("x", make_process(["sh", "-c", "ls /proc/self/fd; ls -l /proc/$$/cwd /proc/$$/root"]))
        )
        output = (await read_all(running))[StreamKind.STDOUT]
        assert output.startswith("0\n1\n2\n3\n")
        assert output.count("-> /\n") == 2

    lab.run(test)


def set_disposition(number: int, handler: int) -> None:
    """rt_sigaction(2) past libc, which refuses its own signals; 0 is the default, 1 ignores."""
    action = ctypes.create_string_buffer(handler.to_bytes(8, "little"), 32)
    syscalls.invoke(syscalls.NR_RT_SIGACTION, "rt_sigaction", None, number, action, None, 8)


def test_signals_are_at_their_defaults(tmp_path: Path) -> None:
    # Children inherit what is ignored, and what posix_spawn(3) starts (make does) ignores libc's own signal 32.
    set_disposition(32, 1)
    try:
        lab = Lab(tmp_path)
    finally:
        set_disposition(32, 0)

    async def test() -> None:
        container = await lab.start(
            lab.request(make_document(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])), [AttachWish()]
        )
        output = (await read_all(container.attached[0]))[StreamKind.STDOUT]
        assert output == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"

    lab.run(test)


def test_only_the_allowed_devices_can_be_opened(lab: Lab) -> None:
    async def test() -> None:
        script = (
            "for n in 'mem c 1 1' 'disk b 254 0' 'null c 1 3'; do set $n; mknod /tmp/$1 $2 $3 $4; cat /tmp/$1; done; echo fine"
        )
        output, _ = await lab.shell(f"({script}) 2>&1")
        assert output == (
            "cat: can't open '/tmp/mem': Operation not permitted\ncat: can't open '/tmp/disk': Operation not permitted\nfine\n"
        )

    lab.run(test)


def test_masked_paths_are_empty_and_stay_so(lab: Lab) -> None:
    async def test() -> None:
        output, _ = await lab.shell(
            "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; umount /proc/kcore; rm /proc/kcore"
        )
        assert output.startswith("0\n0\n")
        assert "can't unmount" in output

    lab.run(test)


def test_the_host_s_processes_are_invisible(lab: Lab) -> None:
    async def test() -> None:
        output, _ = await lab.shell("ls /proc | grep -c '^[0-9]'")
        assert int(output) <= 5

    lab.run(test)


@pytest.mark.parametrize("target", ["/link/made", "/abs/made", "/up/made", "/dangling/made", "/file"])
def test_symlinks_in_the_image_cannot_move_a_mount_out_of_the_root(lab: Lab, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (lab.layer / "link").symlink_to(outside)
    (lab.layer / "abs").symlink_to("/tmp")
    (lab.layer / "up").symlink_to("../../../../../../../../../../../.." + str(outside))
    (lab.layer / "dangling").symlink_to("/nowhere/yet")
    (lab.layer / "file").symlink_to(str(outside / "file"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "mark").write_text("mark\n")

    async def test() -> None:
        document = make_document([])
        document["mounts"].append({"destination": target, "type": "bind", "source": str(source), "options": ["rbind"]})
        output, _ = await lab.shell(f"cat {target}/mark", document)
        assert output == "mark\n"
        assert list(outside.iterdir()) == []
        assert not Path("/nowhere").exists()

    lab.run(test)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_symlink_in_place_of_proc_or_sys_is_refused(lab: Lab, name: str) -> None:
    (lab.layer / "elsewhere").mkdir()
    (lab.layer / name).symlink_to("/elsewhere")

    async def test() -> None:
        with pytest.raises(SystemFailure, match=f"/{name}"):
            await lab.start(lab.request(make_document(["true"])))

    lab.run(test)


@pytest.mark.parametrize("destination", ["/proc/sys", "/proc/1", "/", "/proc/../proc/irq"])
def test_a_mount_over_parts_of_proc_or_the_root_is_refused(lab: Lab, tmp_path: Path, destination: str) -> None:
    async def test() -> None:
        document = make_document(["true"])
        document["mounts"].append({"destination": destination, "type": "bind", "source": str(tmp_path), "options": ["rbind"]})
        with pytest.raises(EngineError, match="mount"):
            await lab.start(lab.request(document))

    lab.run(test)


def test_a_working_directory_below_a_symlink_stays_inside(lab: Lab, tmp_path: Path) -> None:
    (lab.layer / "jump").symlink_to(tmp_path)

    async def test() -> None:
        output, _ = await lab.shell("pwd -P", make_document([], cwd="/jump/inner"))
        assert output == f"{tmp_path}/inner\n"
        assert not (tmp_path / "inner").exists()

    lab.run(test)


def test_a_working_directory_through_a_leaked_descriptor_is_refused(lab: Lab) -> None:
    async def test() -> None:
        for number in range(3, 16):
            try:
                output, _ = await lab.shell("pwd -P; ls", make_document([], cwd=f"/proc/self/fd/{number}"))
            except EngineError:
                continue
            pytest.fail(f"descriptor {number} led to {output}")

    lab.run(test)


def test_the_interpreter_cannot_be_reached_for_writing(lab: Lab) -> None:
    """The shebang trick: the kernel opens ``/proc/self/exe`` while it still is the runtime's interpreter."""
    (lab.layer / "trick").write_text("#!/proc/self/exe\n")
    (lab.layer / "trick").chmod(0o755)

    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sleep", "100"])))
        status = Path(f"/proc/{container.pid}/status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid"))
        assert os.statvfs(f"/proc/{parent}/exe").f_flag & os.ST_RDONLY
        running = None
        try:
            running = await container.exec(ExecRequest("x", make_process(["/trick"]), default_seccomp()))
        except EngineError:
            return
        await read_all(running)
        await running.exited

    lab.run(test)


def test_the_session_keyring_is_a_new_one(lab: Lab) -> None:
    async def test() -> None:
        document = make_document(["cat", "/proc/keys"])
        document["linux"]["maskedPaths"] = []
        request = lab.request(document)
        container = await lab.start(request, [AttachWish()])
        output = (await read_all(container.attached[0]))[StreamKind.STDOUT]
        assert f"_ses.{request.container_id[:32]}" in output

    lab.run(test)


def test_no_new_privileges_is_set_when_asked(lab: Lab) -> None:
    async def test() -> None:
        script = "grep NoNewPrivs /proc/self/status"
        assert (await lab.shell(script, make_document([], noNewPrivileges=True)))[0] == "NoNewPrivs:\t1\n"
        assert (await lab.shell(script))[0] == "NoNewPrivs:\t0\n"

    lab.run(test)

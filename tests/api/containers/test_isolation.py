"""Attacks from inside a default container, and by images that were made to mislead the engine.

What a default container sees of capabilities, mounts, devices and descriptors is asked in tests/e2e/test_confinement.py.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError
from support.engine import ROOTLESS, EngineUnderTest

from kitepy.client.starter import find_busybox, pack_starter

# --- system calls ----------------------------------------------------------------------------------------------------

PROBE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TRY(name, ...) do { errno = 0; long r = syscall(__VA_ARGS__); \
    printf("%s=%s\n", name, r >= 0 ? "allowed" : strerrorname_np(errno)); } while (0)
int main(void) {
    TRY("keyctl", SYS_keyctl, 0, -3, 0);
    TRY("add_key", SYS_add_key, "user", "x", "y", 1, -3);
    TRY("unshare", SYS_unshare, CLONE_NEWUSER);
    TRY("setns", SYS_setns, 0, 0);
    TRY("mount", SYS_mount, "none", "/mnt", "tmpfs", 0, 0);
    TRY("bpf", SYS_bpf, 0, 0, 0);
    TRY("kexec_load", SYS_kexec_load, 0, 0, 0, 0);
    TRY("init_module", SYS_init_module, 0, 0, "");
    TRY("reboot", SYS_reboot, 0, 0, 0, 0);
    TRY("swapon", SYS_swapon, "/x", 0);
    TRY("userfaultfd", SYS_userfaultfd, 0);
    TRY("open_by_handle_at", SYS_open_by_handle_at, -1, 0, 0);
    TRY("io_uring_setup", SYS_io_uring_setup, 1, 0);
    TRY("pivot_root", SYS_pivot_root, "/", "/");
    TRY("vsock", SYS_socket, 40, SOCK_STREAM, 0);
    TRY("getpid", SYS_getpid);
    return 0;
}
"""


@pytest.fixture(name="probe", scope="session")
def _probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A static program that tries system calls and says what came of them."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: sudo apt-get install gcc libc6-dev")
    directory = tmp_path_factory.mktemp("probe")
    if ROOTLESS:  # where that user can reach it
        directory = Path(tempfile.mkdtemp(prefix="kt-", dir="/var/tmp"))
        directory.chmod(0o755)
    (directory / "probe.c").write_text(PROBE)
    subprocess.run([compiler, "-static", "-o", "probe", "probe.c"], cwd=directory, check=True, timeout=60)
    yield directory / "probe"
    if ROOTLESS:
        shutil.rmtree(directory)


def test_dangerous_system_calls_are_refused_and_harmless_ones_are_not(output: Callable[..., str], probe: Path) -> None:
    text = output("/probe", volumes=[f"{probe}:/probe:ro"])
    answers = dict(line.split("=") for line in text.splitlines())
    assert answers.pop("getpid") == "allowed"
    assert len(answers) == 15
    assert {name: answer for name, answer in answers.items() if answer not in ("EPERM", "ENOSYS")} == {}


def test_the_same_calls_pass_the_filter_when_there_is_none(output: Callable[..., str], probe: Path) -> None:
    text = output("/probe", volumes=[f"{probe}:/probe:ro"], security_opt=["seccomp=unconfined"])
    assert "unshare=allowed" in text


# --- the kernel's doors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attempt",
    [
        "echo b >/proc/sysrq-trigger",
        "echo 1 >/proc/sys/kernel/panic",
        "echo x >/proc/sys/kernel/core_pattern",
        "echo x >/sys/kernel/uevent_helper",
        "mount -t proc proc /mnt",
        "mount --bind / /mnt",
        "mount -o remount,rw /sys",
        "umount /proc/kcore",
        "umount /etc/hosts",
        "unshare -U true",
        "unshare -m true",
        "nsenter -t 1 -m true",
        "chroot /proc/1/root/.. ls /var/tmp/ke-nothing",
        "head -c 1 /proc/kcore | grep .",
        "cat /proc/keys | grep .",
        "cat /sys/firmware/* | grep .",
        "ls /proc/timer_list | grep -q x",
        "hostname stolen",
        "ip link add d0 type dummy",
        "dmesg -n 1",
        "swapoff -a -v | grep .",
    ],
)
def test_it_is_refused(output: Callable[..., str], attempt: str) -> None:
    text = output(f"if {attempt}; then echo BROKEN; fi")
    assert "BROKEN" not in text


def test_a_disk_of_the_host_cannot_be_opened_even_by_a_node_of_ones_own(output: Callable[..., str]) -> None:
    numbers = [line.split() for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    major, minor = (numbers[0][0], numbers[0][1]) if numbers else ("8", "0")
    text = output(f"mknod /disk b {major} {minor} && echo made; head -c 1 /disk >/dev/null && echo BROKEN")
    # CAP_MKNOD is in Docker's default set: the device cgroup is what holds. A user namespace makes no nodes in the first place.
    assert ("made" in text) != ROOTLESS
    assert "BROKEN" not in text
    text = output("mknod /kmem c 1 2; mknod /mem c 1 1; head -c 1 /mem >/dev/null && echo BROKEN")
    assert "BROKEN" not in text


def test_the_cgroup_cannot_be_used_to_run_something_on_the_host(output: Callable[..., str]) -> None:
    script = (
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs "
        "-o -name memory.limit_in_bytes -o -name memory.max -o -name devices.allow); do "
        "echo 1 2>/dev/null >$f && echo BROKEN $f; done; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x && echo BROKEN"
    )
    assert "BROKEN" not in output(script)


def test_process_one_is_the_containers_own(engine: EngineUnderTest, output: Callable[..., str]) -> None:
    text = output("tr '\\0' '\\n' </proc/1/environ; tr '\\0' ' ' </proc/1/cmdline; readlink /proc/1/exe")
    assert str(engine.home) not in text
    assert "VIRTUAL_ENV" not in text
    for variable in set(os.environ) - {"PATH", "HOME", "HOSTNAME", "TERM", "_", "PWD", "SHLVL", "OLDPWD"}:
        assert f"\n{variable}=" not in f"\n{text}", variable


def test_the_engines_own_directories_are_out_of_sight(engine: EngineUnderTest, output: Callable[..., str]) -> None:
    text = output(f"ls {engine.home}; ls /proc/*/root{engine.home}; ls /proc/*/cwd{engine.home}; cat /proc/self/mountinfo")
    assert "state.db" not in text
    assert "e.sock" not in text


def test_the_environment_and_descriptors_of_an_exec_are_clean_too(run: Any) -> None:
    container = run(["sleep", "60"])
    listing = container.exec_run(["ls", "-l", "/proc/self/fd"]).output.decode()
    names = [line.split()[8] for line in listing.splitlines() if "->" in line]
    assert names[:3] == ["0", "1", "2"]
    assert names[3:] in ([], ["3"])  # ls's own
    status = container.exec_run(["cat", "/proc/self/status"]).output.decode()
    assert "Seccomp:\t2" in status
    assert "CapEff:\t00000000a80425fb" in status


def test_exec_is_confined_like_the_container(run: Any, probe: Path) -> None:
    container = run(["sleep", "60"], volumes=[f"{probe}:/probe:ro"])
    assert b"keyctl=EPERM" in container.exec_run(["/probe"]).output
    for attempt in ("unshare -m true", "mount -t tmpfs x /mnt", "echo b >/proc/sysrq-trigger"):
        assert container.exec_run(["sh", "-c", attempt]).exit_code != 0


def test_no_new_privileges_is_kept_by_an_exec(run: Any) -> None:
    container = run(["sleep", "60"], security_opt=["no-new-privileges"])
    assert b"NoNewPrivs:\t1" in container.exec_run(["grep", "NoNewPrivs", "/proc/self/status"]).output


# --- images that mislead ---------------------------------------------------------------------------------------------


@pytest.fixture(name="trap")
def _trap(tmp_path: Path) -> Path:
    """A directory of the host where hostile links point to, with a file in it."""
    trap = tmp_path / "host"
    trap.mkdir()
    (trap / "secret").write_text("the host's\n")
    return trap


Import = Callable[[dict[str, str]], str]


@pytest.fixture(name="hostile")
def _hostile(client: docker.DockerClient) -> Iterator[Import]:
    """Import BusyBox with symbolic links added, by path; a link replaces what was at its place."""
    made: list[str] = []

    def build(links: dict[str, str]) -> str:
        buffer = io.BytesIO()
        names = {name.strip("/") for name in links}
        with (
            tarfile.open(fileobj=io.BytesIO(pack_starter(find_busybox()))) as base,
            tarfile.open(fileobj=buffer, mode="w") as archive,
        ):
            for member in base:
                if member.name.strip("./") not in names:
                    archive.addfile(member, base.extractfile(member) if member.isfile() else None)
            for name, target in links.items():
                link = tarfile.TarInfo(name.strip("/"))
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
        repository = f"hostile-{len(made)}"
        client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag="t", changes=['CMD ["sh"]'])
        made.append(f"{repository}:t")
        return made[-1]

    yield build
    for container in client.containers.list(all=True, ignore_removed=True):
        if container.attrs["Config"]["Image"] in made:
            container.remove(force=True, v=True)
    for tag in made:
        client.images.remove(tag, force=True)


def _up_to(path: Path) -> list[str]:
    return [str(path), "../../../../../../../../.." + str(path)]


def _untouched(trap: Path) -> bool:
    return sorted(entry.name for entry in trap.iterdir()) == ["secret"] and (trap / "secret").read_text() == "the host's\n"


def _try(output: Callable[..., str], script: str, **options: Any) -> str:
    """A start may be refused, too; what counts is that nothing of the host is reached."""
    try:
        return output(script, **options)
    except APIError as error:
        return str(error)


@pytest.mark.parametrize("way", [0, 1])
def test_a_volume_at_a_link_stays_inside(output: Any, hostile: Import, trap: Path, way: int) -> None:
    image = hostile({"data": _up_to(trap)[way]})
    text = _try(output, "echo x >/data/new; ls /data/", image=image, volumes=["/data"])
    assert _untouched(trap)
    assert text == "new\n"


@pytest.mark.parametrize("way", [0, 1])
def test_a_new_volume_is_not_filled_from_the_host(
    client: docker.DockerClient, output: Any, hostile: Import, trap: Path, way: int
) -> None:
    image = hostile({"data": _up_to(trap)[way]})
    try:
        text = _try(output, "ls /data/", image=image, volumes={"filled-from": {"bind": "/data", "mode": "rw"}})
        assert "secret" not in text
        assert "secret" not in _try(output, "ls /v", volumes={"filled-from": {"bind": "/v", "mode": "ro"}})
    finally:
        client.volumes.get("filled-from").remove(force=True)
    assert _untouched(trap)


@pytest.mark.parametrize("way", [0, 1])
def test_a_bind_below_a_link_stays_inside(tmp_path: Path, output: Any, hostile: Import, trap: Path, way: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "mine").touch()
    image = hostile({"mnt": _up_to(trap)[way]})
    text = _try(output, "ls /mnt/deep/er", image=image, volumes=[f"{source}:/mnt/deep/er"])
    assert _untouched(trap)
    assert text == "mine\n" or "rror" in text


@pytest.mark.parametrize("way", [0, 1])
def test_a_tmpfs_at_a_link_stays_inside(output: Any, hostile: Import, trap: Path, way: int) -> None:
    image = hostile({"scratch": _up_to(trap)[way]})
    _try(output, "touch /scratch/new", image=image, tmpfs={"/scratch/deep": ""})
    assert _untouched(trap)


@pytest.mark.parametrize("name", ["etc/hosts", "etc/hostname", "etc/resolv.conf"])
@pytest.mark.parametrize("way", [0, 1])
def test_identity_files_that_are_links_stay_inside(output: Any, hostile: Import, trap: Path, name: str, way: int) -> None:
    image = hostile({name: _up_to(trap / "secret")[way]})
    text = _try(output, f"cat /{name}; echo overwritten >/{name}; echo new >{trap}/other", image=image)
    assert _untouched(trap)
    assert "the host's" not in text


@pytest.mark.parametrize("name", ["etc/hosts", "etc"])
def test_identity_files_are_not_made_at_the_end_of_a_dangling_link(output: Any, hostile: Import, trap: Path, name: str) -> None:
    image = hostile({name: str(trap / "made" if name == "etc/hosts" else trap)})
    _try(output, "true", image=image)
    assert _untouched(trap)


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
def test_account_files_that_are_links_are_not_read_from_the_host(
    client: docker.DockerClient, hostile: Import, trap: Path, name: str
) -> None:
    (trap / "secret").write_text("intruder:x:4242:4242::/:\n")
    image = hostile({name: str(trap / "secret")})
    user = "intruder" if name == "etc/passwd" else "0:intruder"
    container = client.containers.create(image, ["true"], user=user)
    with pytest.raises(APIError, match="unable to find"):
        container.start()


@pytest.mark.parametrize("way", [0, 1])
def test_a_working_directory_below_a_link_is_made_inside(output: Any, hostile: Import, trap: Path, way: int) -> None:
    image = hostile({"work": _up_to(trap)[way]})
    _try(output, "touch new", image=image, working_dir="/work/deep/er")
    assert _untouched(trap)


@pytest.mark.parametrize("directory", ["/work/deep", "/proc/self/fd/7", "/proc/self/fd/9/../..", "/proc/1/root/.."])
def test_an_execs_working_directory_stays_inside(run: Any, hostile: Import, trap: Path, directory: str) -> None:
    container = run(["sleep", "60"], image=hostile({"work": str(trap)}))
    result = container.exec_run(["sh", "-c", f"ls -A . ..; cat {trap}/secret; ls ../../../..{trap}"], workdir=directory)
    assert _untouched(trap)
    assert b"the host's" not in result.output
    assert b"secret\n" not in result.output.replace(f"{trap}/secret".encode(), b"")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_system_directories_that_are_links_are_refused_or_stay_inside(
    output: Any, hostile: Import, trap: Path, name: str
) -> None:
    _try(output, f"ls /{name}/; touch /{name}/x", image=hostile({name: str(trap)}))
    assert _untouched(trap)


def test_a_shell_that_is_a_link_to_the_host_does_not_run(client: docker.DockerClient, hostile: Import) -> None:
    host_program = sorted(Path("/usr/bin").glob("python3*"))[0]
    container = client.containers.create(hostile({"bin/evil": str(host_program)}), ["/bin/evil", "-V"])
    with pytest.raises(APIError, match="evil"):
        container.start()
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 127


def test_a_container_cannot_redirect_its_next_start(run: Any, trap: Path, until: Any) -> None:
    """What the container itself changed in its root is as hostile as an image."""
    script = f"rm -rf /data /etc/group; ln -s {trap} /data; ln -s {trap}/secret /etc/group; echo ready; sleep 60"
    container = run(script, working_dir="/data/deep", tmpfs={"/scratch": ""})
    until(lambda: b"ready" in container.logs())
    container.restart(timeout=0)
    assert _untouched(trap)

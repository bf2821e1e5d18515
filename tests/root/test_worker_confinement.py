"""Code that takes over a worker (a bug in the reader of archives, say) gains nothing: it runs here where such code would."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kitepy.engine.kernel import landlock
from kitepy.engine.storage import confinement


def in_worker(root: Path, attack: Callable[[], None], **options: bool) -> str:
    """Run something as a job would be after it has entered its root: ``worked``, or the error's name."""
    confinement.worker_filter()
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confinement.enter_private_mounts()
            confinement.chroot_into(str(root), **options)
            try:
                attack()
                answer = "worked"
            except OSError as error:
                answer = type(error).__name__
        except BaseException as error:
            answer = f"fault: {error!r}"
        os.write(write_fd, answer.encode())
        os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as answers:
        answer = answers.read().decode()
    os.waitpid(pid, 0)
    return answer


def mount_tmpfs() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/", b"tmpfs", ctypes.c_ulong(0), None) < 0:
        raise OSError(ctypes.get_errno(), "mount")


def open_disk(kind: int, device: int) -> None:
    os.mknod("/node", kind | 0o600, device)
    os.close(os.open("/node", os.O_RDONLY))


def connect() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 1))


def set_ids() -> None:
    os.setresuid(1, 1, 1)


ATTACKS: dict[str, Callable[[], object]] = {
    "the host's files by climbing": lambda: os.open("../../../../../../../../etc/shadow", os.O_RDONLY),
    "a second chroot": lambda: os.chroot("/"),
    "a program": lambda: os.execv("/program", ["program"]),  # noqa: S606 - the attack
    "a child process": os.fork,
    "a mount": mount_tmpfs,
    "a connection": connect,
    "a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "the parent process": lambda: os.kill(os.getppid(), 0),
    "the engine's group": lambda: os.killpg(os.getpgid(0), 0),
    "memory of the machine": lambda: open_disk(stat.S_IFCHR, os.makedev(1, 1)),
    "a disk": lambda: open_disk(stat.S_IFBLK, os.makedev(254, 0)),
    "the null device": lambda: open_disk(stat.S_IFCHR, os.makedev(1, 3)),
    "another user": set_ids,
    "a priority": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 5),
}


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_worker_that_was_taken_over_reaches(tmp_path: Path, name: str, outside: bool) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path(sys.executable).resolve().read_bytes()[:64])
    program.chmod(0o755)

    def attack() -> None:
        if ATTACKS[name]() == 0:  # the child of a fork that worked
            os._exit(0)

    assert in_worker(tmp_path, attack, outside=outside) in ("PermissionError", "FileNotFoundError")


def test_a_directory_of_the_host_that_is_still_open_leads_nowhere(tmp_path: Path) -> None:
    if landlock.abi_version() < 2:
        pytest.skip("the kernel has no Landlock, or an early one")
    (tmp_path / "secret").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert in_worker(root, lambda: os.close(os.open("secret", os.O_RDONLY, dir_fd=fd))) == "PermissionError"
        assert in_worker(root, lambda: os.close(os.open("secret", os.O_RDONLY, dir_fd=fd)), outside=True) == "worked"
    finally:
        os.close(fd)


def restore() -> None:
    """All that unpacking does."""
    os.mkdir("/d", 0o700)
    fd = os.open("/d/f", os.O_WRONLY | os.O_CREAT, 0o600)
    os.fchown(fd, 1234, 5678)
    os.fchmod(fd, 0o4755)
    os.setxattr(fd, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.close(fd)
    os.mknod("/d/node", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.mknod("/d/whiteout", stat.S_IFCHR, 0)
    os.mkfifo("/d/fifo")
    os.symlink("nowhere", "/d/link")
    os.link("/d/f", "/hard")
    os.rename("/hard", "/d/moved")
    os.utime("/d/f", ns=(1, 2))
    thread = threading.Thread(target=os.listdir, args=("/d",))
    thread.start()
    thread.join()


def test_all_that_unpacking_does_still_works(tmp_path: Path) -> None:
    assert in_worker(tmp_path, restore) == "worked"


@pytest.mark.parametrize(("trusted", "answer"), [(True, "worked"), (False, "PermissionError")])
def test_marks_of_overlay_are_written_only_by_those_who_have_to(tmp_path: Path, trusted: bool, answer: str) -> None:
    def mark() -> None:
        os.setxattr("/", "trusted.overlay.opaque", b"y")

    assert in_worker(tmp_path, mark, trusted_xattrs=trusted) == answer


def test_a_worker_is_still_killed_with_its_parent() -> None:
    # The signal comes from the kernel, so that a worker may send none doesn't matter.
    confinement.worker_filter()
    read_fd, write_fd = os.pipe()
    parent = os.fork()
    if parent == 0:
        own = os.getpid()
        if os.fork() == 0:
            confinement.die_with_parent(own)
            confinement.enter_private_mounts()
            confinement.chroot_into("/var/empty" if os.path.isdir("/var/empty") else "/mnt")
            os.write(write_fd, b"sealed")
            threading.Event().wait()
        os.close(write_fd)
        threading.Event().wait()
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        assert pipe.read(6) == b"sealed"
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert pipe.read() == b""

"""Makes the namespaces of an ordinary user's engine, and the two processes that keep them.

The *inside* process owns a user, a mount and a network namespace and does nothing else; the *outside* process (``outside``)
mapped its ids by newuidmap(1) and serves the engine from the host's network. Both are made by fork from a small, single-threaded
process, and outlive it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kitepy.engine.kernel import mounts, namespaces, syscalls
from kitepy.engine.kernel.packets import receive, send
from kitepy.engine.kernel.subordinate_ids import IdRange, free_range, parse_entries, plan_map, ranges_of
from kitepy.engine.rootless.outside import Outside
from kitepy.engine.rootless.state import HelperState, ProcessMark

_MAP_TIMEOUT_S = 10.0
_PAUSE_S = "2147483647"


class RootlessError(Exception):
    """The engine can't run as this user; the text is for that user and names the command that helps."""


def start_helpers(directory: Path, known: HelperState | None) -> None:
    """Start the outside process, and the inside one unless ``known`` names one that lives. Raises RootlessError.

    Returns when both are ready.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        ours.close()
        _detach(directory, theirs.fileno())
        _run_outside(directory, theirs, known)
    theirs.close()
    os.waitpid(child, 0)
    with ours:
        received = receive(ours)
    if received is None:
        raise RootlessError(f"the helper process ended; its log is {directory / 'outside.log'}")
    message = received[0]
    if "failed" in message:
        raise RootlessError(str(message["failed"]))


def _detach(directory: Path, channel_fd: int) -> None:
    """Become a process of nobody: forked twice, its own session, no descriptor but the channel."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null_fd = os.open("/dev/null", os.O_RDWR)
    log_fd = os.open(directory / "outside.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for target, source in ((0, null_fd), (1, null_fd), (2, log_fd)):
        os.dup2(source, target)
    low, high = sorted((channel_fd, channel_fd + 1))
    os.closerange(3, low)
    os.closerange(high, 4096)
    syscalls.set_name("kitepy-outside")


def _run_outside(directory: Path, channel: socket.socket, known: HelperState | None) -> NoReturn:
    code = 1
    try:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            # Containers need it until they have ended; it ends with the namespaces.
            signal.signal(number, signal.SIG_IGN)
        syscalls.set_child_subreaper()
        try:
            inside = known.inside if known is not None else _make_inside()
            outside = Outside(directory, inside, namespaces.pidfd_open(inside.pid))
        except RootlessError as error:
            send(channel, {"failed": str(error)})
            os._exit(code)
        outside.connect_uplink(known.uplink if known else None, known.uplink_kind if known else "")
        send(channel, {"ready": True})
        channel.close()
        outside.serve()
        code = 0
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(code)


def _make_inside() -> ProcessMark:
    """Fork the inside process and map its ids."""
    to_inside_read, to_inside_write = os.pipe2(os.O_CLOEXEC)
    from_inside_read, from_inside_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(to_inside_write)
        os.close(from_inside_read)
        _be_inside(to_inside_read, from_inside_write)
    os.close(to_inside_read)
    os.close(from_inside_write)
    try:
        _expect(from_inside_read, b"u")
        _map_ids(pid)
        os.write(to_inside_write, b"m")
        _expect(from_inside_read, b"r")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(to_inside_write)
        os.close(from_inside_read)
    mark = ProcessMark.of(pid)
    if mark is None:
        raise RootlessError("the process that should hold the namespaces has ended")
    return mark


def _expect(fd: int, wanted: bytes) -> None:
    """Wait for the inside process's next step; it sends a sentence instead when it failed."""
    answer = os.read(fd, 4096)
    if answer != wanted:
        raise RootlessError(answer.decode(errors="replace") or "the process that should hold the namespaces has ended")


def _be_inside(from_outside: int, to_outside: int) -> NoReturn:
    step = "a user namespace can't be made"
    try:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        os.write(to_outside, b"u")
        if os.read(from_outside, 1) != b"m":
            os._exit(1)
        step = "the user namespace gives no rights"
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.setgroups([])
        namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET)
        # What is mounted outside later (a USB stick) appears here too; nothing of ours appears outside.
        mounts.set_propagation("/", mounts.MS_REC | mounts.MS_SLAVE)
        _raise_loopback()
        os.write(to_outside, b"r")
        program = shutil.which("sleep", path="/usr/bin:/bin")
        if program is not None:
            os.execv(program, ["kitepy-namespaces", _PAUSE_S])  # noqa: S606 - a fixed program
    except OSError as error:
        os.write(to_outside, f"{step} ({error.strerror or error}); `kitepy doctor` tells what to do".encode())
        os._exit(1)
    while True:
        signal.pause()


def _raise_loopback() -> None:
    from kitepy.engine.kernel.netlink import LOOPBACK_INDEX, RouteSocket, set_link

    with RouteSocket() as route:
        route.execute([set_link(LOOPBACK_INDEX, up=True)])


def _map_ids(pid: int) -> None:
    for tool, file, own_id in (("newuidmap", "/etc/subuid", os.getuid()), ("newgidmap", "/etc/subgid", os.getgid())):
        ranges = _subordinate_ranges(file)
        program = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
        if program is None:
            raise RootlessError(f"{tool} is not installed: sudo apt install uidmap")
        plan = [str(number) for line in plan_map(own_id, ranges) for number in line]
        done = subprocess.run(
            [program, str(pid), *plan],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MAP_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RootlessError(f"{tool} refused to map the ids of {file}: {done.stderr.strip() or done.returncode}")


def _subordinate_ranges(file: str) -> Sequence[IdRange]:
    user = pwd.getpwuid(os.getuid()).pw_name
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    entries = parse_entries(text)
    ranges = ranges_of(entries, user, os.getuid())
    if not ranges:
        free = free_range(entries)
        option = "--add-subuids" if file.endswith("uid") else "--add-subgids"
        raise RootlessError(
            f"{file} gives {user} no ids for the users inside containers: "
            f"sudo usermod {option} {free.first}-{free.end - 1} {user}"
        )
    return ranges

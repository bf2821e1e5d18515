"""The launcher: a warm, minimal process from which monitors are forked in a millisecond.

``fork_launcher`` is called once, before the engine starts a thread or a loop. The launcher is executed from a read-only copy of
the interpreter's mount, so that no container can ever write to the interpreter through ``/proc/<pid>/exe`` of a process that
joins it (CVE-2019-5736), and it imports only the standard library, ``kernel`` and ``model``. It ends when the engine closes its
socket; the monitors are its children but don't depend on it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from _socket import socket as Socket

    from kitepy.engine.runtime.init import Machine

_ENGINE_FD = 3
_LAUNCH_FAULT = 71
_REST_MS = 2
"""Without a request for so long, there is time to fork a monitor in advance: in a burst that would only take time from others."""


class LauncherHandle:
    """The engine's end: a SEQPACKET socket's descriptor (close-on-exec) and the launcher's process id."""

    __slots__ = ("fd", "pid")

    def __init__(self, fd: int, pid: int) -> None:
        self.fd = fd
        self.pid = pid


def fork_launcher() -> LauncherHandle:
    """Start the launcher. The caller owns the handle's descriptor; closing it ends the launcher."""
    import _socket

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid:
        theirs.close()
        return LauncherHandle(ours.detach(), pid)
    try:
        os.setsid()  # a Ctrl-C at the engine's terminal is not for containers
        os.dup2(theirs.fileno(), _ENGINE_FD, inheritable=True)
        null_fd = os.open("/dev/null", os.O_RDWR)
        os.dup2(null_fd, 0)
        os.dup2(null_fd, 1)
        os.closerange(_ENGINE_FD + 1, 1024)
        _execute_interpreter()
    except BaseException as error:
        os.write(2, f"kitepy-engine: the launcher can't start: {error}\n".encode())
    os._exit(_LAUNCH_FAULT)


def _execute_interpreter() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    code = f"import sys; sys.path.insert(0, {root!r}); from kitepy.engine.runtime.launcher import serve; serve({_ENGINE_FD})"
    # An engine that is root for a user keeps compiled modules elsewhere; -I would forget it.
    cache = ("-X", f"pycache_prefix={sys.pycache_prefix}") if sys.pycache_prefix else ()
    arguments = [sys.executable, "-I", "-S", *cache, "-c", code]
    from kitepy.engine.kernel.mounts import read_only_clone

    # Nothing else of the engine's environment: a container's init is forked from here.
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        os.execve(read_only_clone(os.path.realpath(sys.executable)), arguments, environment)  # noqa: S606 - a fixed program
    except OSError as error:
        # Before Linux 5.12, or without CAP_SYS_ADMIN here. Children are still not dumpable, which closes the common way in.
        os.write(2, f"kitepy-engine: running the launcher from a writable mount: {error}\n".encode())
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - a fixed program


def serve(fd: int) -> None:
    """Be the launcher: fork a monitor for each request until the engine closes the socket; never returns."""
    import gc
    import select
    from _socket import AF_UNIX, SOCK_SEQPACKET, socket

    from kitepy.engine.kernel import namespaces, syscalls
    from kitepy.engine.kernel.packets import receive_packet, send
    from kitepy.engine.runtime.spare import fork_spare, serve_launch

    os.set_inheritable(fd, False)
    engine = socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)
    syscalls.set_name("kitepy-launcher")
    syscalls.set_not_dumpable()
    syscalls.ignore_signal(17)  # SIGCHLD: the kernel reaps monitors
    machine = find_machine()
    gc.collect()
    gc.disable()
    gc.freeze()
    spare: socket | None = None
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while True:
        if spare is None and not poller.poll(_REST_MS):
            spare = fork_spare(machine, engine)
        received = receive_packet(engine)
        if received is None:
            os._exit(0)
        packet, fds = received
        try:
            if spare is None or not _hand_over(spare, packet, fds):
                pid, pidfd = namespaces.fork_with_pidfd()
                if not pid:
                    engine.close()
                    serve_launch(packet, fds, machine)
                os.close(pidfd)
        except OSError as error:
            send(
                socket(AF_UNIX, SOCK_SEQPACKET, 0, fds[0]),
                {"event": "failed", "failed": "system", "message": str(error), "code": 128},
            )
            fds = fds[1:]
        if spare is not None:
            spare.close()
            spare = None
        for received_fd in fds:
            os.close(received_fd)


def _hand_over(spare: Socket, packet: bytes, fds: list[int]) -> bool:
    """Give a request to the spare monitor; False when that is gone."""
    from kitepy.engine.kernel.packets import send_packet

    try:
        send_packet(spare, packet, fds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def find_machine() -> Machine:
    """Look at the machine once, so that monitors need not."""
    from kitepy.engine.kernel.capabilities import last_capability
    from kitepy.engine.kernel.cgroups import detect
    from kitepy.engine.kernel.cgroups_v1 import CgroupV1
    from kitepy.engine.kernel.syscalls import find_title_area
    from kitepy.engine.runtime.init import Machine

    driver = detect()
    hierarchies = driver.hierarchies if isinstance(driver, CgroupV1) else None if driver.version else {}
    return Machine(driver, hierarchies, last_capability(), find_title_area())

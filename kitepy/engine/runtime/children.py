"""A monitor's children: forking process 1 and execs with their descriptors, waiting for exec to succeed, reaping."""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket, socketpair

from kitepy.engine.kernel import namespaces
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.packets import Message, receive, send, send_packet
from kitepy.engine.kernel.user_namespaces import create_user_namespace
from kitepy.engine.runtime.init import Machine, run_exec_process, run_first_process, run_waiting_process
from kitepy.engine.runtime.plan import Plan
from kitepy.engine.runtime.process import Document

_SIGKILL = 9
_CODE_ABANDONED = 128
_ENDING_MS = 5000


class Child:
    """A forked child and what its parent keeps of it; descriptors are -1 when there are none."""

    def __init__(self, pid: int, pidfd: int, channel: socket | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        self.stdin_fd = -1
        self.stdout_fd = -1
        self.stderr_fd = -1

    def wait_until_executed(self, starter_fd: int) -> tuple[Message | None, int]:
        """Block until the child has called exec; returns (what failed or None, the terminal's master or -1).

        When the one who asked for the start hangs up meanwhile, nobody wants the container any more: that is a failure too.
        """
        assert self.channel is not None
        master_fd = -1
        poller = select.poll()
        poller.register(self.channel.fileno(), select.POLLIN)
        poller.register(starter_fd, 0)  # hang-ups are reported without being asked for
        while True:
            if all(fd == starter_fd for fd, _ in poller.poll()):
                return {"failed": "system", "message": "the start was given up", "code": _CODE_ABANDONED}, master_fd
            try:
                received = receive(self.channel)
            except ConnectionResetError:
                continue  # it left a message of ours unread; what it said before comes next
            if received is None:
                break
            message, _, fds = received
            if "failed" in message:
                return message, master_fd
            if "first" in message:
                self._follow(message, fds)
            else:
                master_fd = fds[0]
        self.channel.close()
        return None, master_fd

    def _follow(self, message: Message, fds: list[int]) -> None:
        """The forked process has a successor in the container's PID namespace, and ends."""
        self.reap()
        os.close(self.pidfd)
        self.pid, self.pidfd = int(str(message["first"])), fds[0]

    def adopt_pid_namespace(self) -> None:
        """Let the caller's further children be born in this one's PID namespace."""
        try:
            namespaces.setns(self.pidfd, namespaces.CLONE_NEWPID)
        except ProcessLookupError:
            return  # it has ended already: there will be no others
        except PermissionError:
            # An init can't be traced, and without memory the kernel asks for rights over the whole machine: it is just ending.
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(_ENDING_MS):
                raise

    def _follow_untold(self) -> None:
        """Take up a successor whose announcement was not read any more; the predecessor has ended."""
        if self.channel is None or self.channel.fileno() < 0:
            return
        self.channel.setblocking(False)
        try:
            while (received := receive(self.channel)) is not None:
                if "first" in received[0]:
                    os.close(self.pidfd)
                    self.pid, self.pidfd = int(str(received[0]["first"])), received[2][0]
                    self.kill_and_reap()
                    return
        except (BlockingIOError, ConnectionResetError):
            return

    def drop_pipes(self) -> None:
        """Let go of the ends of its pipes: it has a terminal, or ended."""
        for fd in (self.stdin_fd, self.stdout_fd, self.stderr_fd):
            if fd >= 0:
                os.close(fd)
        self.stdin_fd = self.stdout_fd = self.stderr_fd = -1

    def forget(self) -> None:
        """Let go of what is held of a child that has ended."""
        self.drop_pipes()
        os.close(self.pidfd)
        if self.channel is not None:
            self.channel.close()

    def reap(self) -> int:
        """Wait for the end and give the exit code as a shell reports it."""
        _, status = os.waitpid(self.pid, 0)
        return namespaces.exit_code(status)

    def kill_and_reap(self) -> int:
        """End the child whatever it is doing."""
        try:
            namespaces.pidfd_send_signal(self.pidfd, _SIGKILL)
        except ProcessLookupError:
            return self._reap_all()
        return self._reap_all()

    def _reap_all(self) -> int:
        code = self.reap()
        self._follow_untold()
        return code


class ExecChild(Child):
    """A process that joined the container; ``control`` is the connection that hears of its start and end."""

    def __init__(self, pid: int, pidfd: int, channel: socket, exec_id: str) -> None:
        super().__init__(pid, pidfd, channel)
        self.exec_id = exec_id
        self.control: socket | None = None
        self.sequence: object = None
        self.terminal_fds: list[int] = []


def new_socketpair() -> tuple[socket, socket]:
    """Two connected packet sockets, close-on-exec."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def open_user_namespace(plan: Plan, netns_fd: int | None) -> int:
    """The user namespace of a container to come, or -1 when it has none of its own.

    A network namespace that was prepared for the container brings it along: who has no rights over the owner could neither
    configure the network nor show it in /sys.
    """
    wanted = plan.user_namespace
    if wanted is None:
        return -1
    if wanted.path:
        return os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)
    if netns_fd is not None:
        owner_fd = namespaces.owner_of(netns_fd)
        if not namespaces.is_own(owner_fd, "user"):
            return owner_fd
        os.close(owner_fd)
    return create_user_namespace(wanted.uids, wanted.gids)


def spawn_first_process(
    plan: Plan,
    machine: Machine,
    netns_fd: int | None,
    seccomp_program: bytes,
    fuse: FuseServer | None = None,
    *,
    open_stdin: bool,
    with_init: bool = False,
) -> Child:
    """Fork process 1; it goes through the plan on its own."""
    ours, theirs = new_socketpair()
    stdio: tuple[int, int, int] | None = None
    kept = (-1, -1, -1)
    if not plan.terminal:
        stdio, kept = _make_pipes(open_stdin)
    user_namespace_fd = open_user_namespace(plan, netns_fd)
    cgroup_fd = machine.driver.spawn_fd(plan.cgroup_path)
    own_pids = plan.pid_namespace == "" and plan.user_namespace is None
    pid, pidfd = namespaces.fork_with_pidfd(cgroup_fd, namespaces.CLONE_NEWPID if own_pids else 0)
    if not pid:
        run_first_process(
            plan,
            machine,
            theirs,
            stdio,
            netns_fd,
            seccomp_program,
            fuse,
            in_cgroup=cgroup_fd is not None,
            user_namespace_fd=user_namespace_fd,
            with_init=with_init,
        )
    theirs.close()
    if user_namespace_fd >= 0:
        os.close(user_namespace_fd)
    if cgroup_fd is not None:
        os.close(cgroup_fd)
    for fd in stdio or ():
        os.close(fd)
    child = Child(pid, pidfd, ours)
    child.stdin_fd, child.stdout_fd, child.stderr_fd = kept
    return child


def fork_in_advance(machine: Machine, launcher: socket | None) -> Child:
    """Fork a process 1, in a PID namespace of its own, that has yet to be told for which container it is.

    ``launcher`` is the socket of a monitor that has no request yet either; it has to end with the monitor.
    """
    ours, theirs = new_socketpair()
    pid, pidfd = namespaces.fork_with_pidfd(flags=namespaces.CLONE_NEWPID)
    if not pid:
        ours.close()
        if launcher is not None:
            launcher.close()
        run_waiting_process(machine, theirs, in_a_hurry=launcher is None)
    theirs.close()
    return Child(pid, pidfd, ours)


def give_orders(child: Child, packet: bytes, netns_fd: int | None, *, open_stdin: bool) -> None:
    """Tell a process 1 that was forked in advance which container it is for: ``packet`` is the engine's request.

    It gets pipes in any case; ``Child.drop_pipes`` is for those that turn out to have a terminal.
    """
    assert child.channel is not None
    stdio, kept = _make_pipes(open_stdin)
    child.stdin_fd, child.stdout_fd, child.stderr_fd = kept
    try:
        send_packet(child.channel, packet, stdio if netns_fd is None else [*stdio, netns_fd])
    finally:
        for fd in stdio:
            os.close(fd)


def proceed(child: Child) -> None:
    """The control group is there: the process may enter it. One that has failed by then is no error: its report comes next."""
    assert child.channel is not None
    try:
        send(child.channel, {"proceed": True})
    except (BrokenPipeError, ConnectionResetError):
        return


def _make_pipes(open_stdin: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """((the child's stdin, stdout, stderr), (our ends)). Without stdin the child has the null device."""
    if open_stdin:
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    else:
        stdin_read, stdin_write = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), -1
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
    return (stdin_read, stdout_write, stderr_write), (stdin_write, stdout_read, stderr_read)


def spawn_exec(
    process: Document,
    machine: Machine,
    container_pidfd: int,
    plan: Plan,
    seccomp_program: bytes,
    fds: list[int],
    exec_id: str,
) -> ExecChild:
    """Fork a process that joins the container. ``fds`` are its stdin, stdout, stderr (closed here), or empty for a terminal."""
    ours, theirs = new_socketpair()
    cgroup_fd = machine.driver.spawn_fd(plan.cgroup_path)
    stdio = (fds[0], fds[1], fds[2]) if len(fds) == 3 else None
    try:
        pid, pidfd = namespaces.fork_with_pidfd(cgroup_fd)
        if not pid:
            run_exec_process(
                process,
                machine,
                theirs,
                stdio,
                container_pidfd,
                plan,
                seccomp_program,
                in_cgroup=cgroup_fd is not None,
            )
    finally:
        theirs.close()
        for fd in fds:
            os.close(fd)
        if cgroup_fd is not None:
            os.close(cgroup_fd)
    return ExecChild(pid, pidfd, ours, exec_id)

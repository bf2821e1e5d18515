"""What runs in the forked children of a monitor: process 1 on its way into a new container, or an exec into a running one.

Both report over a close-on-exec channel: a packet is a failure (or carries the terminal's master), plain end means that exec
succeeded.
"""

from __future__ import annotations

import os
import stat
from _socket import socket

from kitepy.engine.kernel import namespaces, syscalls
from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.packets import Message, decode_json, error_text, receive, send
from kitepy.engine.kernel.paths import open_in_root
from kitepy.engine.kernel.tty import open_pair, set_size
from kitepy.engine.kernel.user_namespaces import become_root, enter_user_namespace
from kitepy.engine.model.errors import Unsupported
from kitepy.engine.runtime.operations import Context, JoinCgroup
from kitepy.engine.runtime.plan import Launch, Plan, make_plan
from kitepy.engine.runtime.process import Document, ProcessError, become, open_apparmor_attribute, raise_hard_limits
from kitepy.engine.runtime.rehearsal import rehearse_first_process


class Machine:
    """What the launcher finds out once, before it forks: the control group driver and the kernel's last capability."""

    __slots__ = ("driver", "hierarchies", "last_capability", "title_area")

    def __init__(
        self,
        driver: CgroupDriver,
        hierarchies: dict[str, str] | None,
        last_capability: int,
        title_area: tuple[int, int] = (0, 0),
    ) -> None:
        self.driver = driver
        self.hierarchies = hierarchies
        self.last_capability = last_capability
        self.title_area = title_area


def run_waiting_process(machine: Machine, channel: socket, *, in_a_hurry: bool) -> None:
    """Be a process 1 that was forked before there was a container for it; never returns.

    The monitor's first message is the engine's request, with descriptors for stdin, stdout and stderr (not used with a
    terminal) and that of the network namespace, if it has one. While the process plans and goes on as far as it can, the
    monitor makes the control group; its second message says that this is done (see ``JoinCgroup``). A monitor that hangs up
    instead needs no process 1. Who is ``in_a_hurry`` gets the first message at once.
    """
    if not in_a_hurry:
        rehearse_first_process(machine.hierarchies)
    received = receive(channel)
    if received is None:
        os._exit(0)
    request, program, fds = received
    try:
        document, launch = read_request(request, machine.hierarchies)
        netns_fd = fds[3] if launch.has_netns_fd else None
        plan = make_plan(document, launch)
        stdio = None if plan.terminal else (fds[0], fds[1], fds[2])
    except (ValueError, KeyError) as error:
        send(channel, invalid_document(error))
    except OSError as error:
        send(channel, {"failed": "system", "message": error_text(error), "code": 128})
    else:
        run_first_process(
            plan,
            machine,
            channel,
            stdio,
            netns_fd,
            program,
            None,
            in_cgroup=False,
            awaits_cgroup=True,
            with_init=bool(request.get("init")),
        )
    os._exit(255)


def read_request(request: Message, hierarchies: dict[str, str] | None) -> tuple[Document, Launch]:
    """The OCI document of a request, and the launch values beside it; raises ValueError or OSError."""
    bundle = str(request["bundle"])
    with open(os.path.join(bundle, "config.json"), "rb") as file:
        document = decode_json(file.read().decode())
    if not isinstance(document, dict):
        raise ValueError("config.json must hold an object")
    names, overlay = request["fds"], request.get("overlay")
    assert isinstance(names, list)
    return document, Launch(
        str(request["id"]), bundle, overlay if isinstance(overlay, dict) else None, "netns" in names, hierarchies
    )


def invalid_document(error: Exception) -> Message:
    """What the monitor reports of a document that can't be followed."""
    return {"failed": "fault", "message": f"invalid OCI document: {error}", "code": 128}


def run_first_process(
    plan: Plan,
    machine: Machine,
    channel: socket,
    stdio: tuple[int, int, int] | None,
    netns_fd: int | None,
    seccomp_program: bytes,
    fuse: FuseServer | None,
    *,
    in_cgroup: bool,
    awaits_cgroup: bool = False,
    user_namespace_fd: int = -1,
    with_init: bool = False,
) -> None:
    """Confine the calling process as planned and become the container's process 1; never returns.

    ``stdio`` None means a terminal, whose master goes out over the channel.
    """
    step = ""
    try:
        context = Context(machine.driver, netns_fd, channel, user_namespace_fd)
        context.fuse = fuse
        context.awaits_cgroup = awaits_cgroup
        os.umask(0)
        give_stdio(plan, plan.process, stdio)
        context.process = plan.process
        context.open_apparmor()
        for operation in plan.operations:
            if in_cgroup and isinstance(operation, JoinCgroup):
                continue
            step = type(operation).__name__
            operation.execute(context)
        step = ""
        if stdio is None:
            stdio = _hand_over_terminal(channel, context.terminal_master_fd, context.terminal_slave_fd)
        become(
            plan.process,
            seccomp_program,
            plan.seccomp_flags,
            stdio,
            plan.terminal,
            machine.last_capability,
            context.apparmor_fd,
            init_title_area=machine.title_area if with_init else None,
        )
    except BaseException as error:
        _report(channel, error, step)
    os._exit(255)


def run_exec_process(
    process: Document,
    machine: Machine,
    channel: socket,
    stdio: tuple[int, int, int] | None,
    pidfd: int,
    plan: Plan,
    seccomp_program: bytes,
    *,
    in_cgroup: bool,
) -> None:
    """Join the container of the process behind ``pidfd`` and become the process described; never returns.

    The caller's children are born in the container's PID namespace already.
    """
    try:
        if not in_cgroup:
            machine.driver.join(plan.cgroup_path)
        # Before the container's mounts are entered: what it put over files of its /proc must not be written to from here.
        apparmor_fd = open_apparmor_attribute(process)
        score = process.get("oomScoreAdj")
        if isinstance(score, int) and score:
            _write_oom_score(score)
        if plan.user_namespace is None:
            namespaces.setns(pidfd, plan.entered_namespaces)
        else:
            give_stdio(plan, process, stdio)
            raise_hard_limits(process.get("rlimits"))
            enter_user_namespace(pidfd, plan.entered_namespaces)
            become_root()
        syscalls.join_session_keyring("_ses.exec")
        terminal = bool(process.get("terminal"))
        if stdio is None:
            stdio = _open_terminal(process, channel)
        become(process, seccomp_program, plan.seccomp_flags, stdio, terminal, machine.last_capability, apparmor_fd)
    except BaseException as error:
        _report(channel, error, "")
    os._exit(255)


def give_stdio(plan: Plan, process: Document, stdio: tuple[int, int, int] | None) -> None:
    """Make pipes belong to the user of the process: from inside another user namespace nobody can."""
    if plan.user_namespace is None or stdio is None:
        return
    uid, gid = plan.user_namespace.root
    user = process.get("user")
    if isinstance(user, dict) and user.get("uid"):
        uid = plan.user_namespace.uids.outside(int(user["uid"])) or uid
    for fd in stdio:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)


def _write_oom_score(score: int) -> None:
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, str(score).encode())
    os.close(fd)


def _open_terminal(process: Document, channel: socket) -> tuple[int, int, int]:
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master_fd = open_in_root(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, follow=False)
    slave_fd, _ = open_pair(master_fd)
    size = process.get("consoleSize")
    if isinstance(size, dict) and size.get("height") and size.get("width"):
        set_size(master_fd, int(size["height"]), int(size["width"]))
    return _hand_over_terminal(channel, master_fd, slave_fd)


def _hand_over_terminal(channel: socket, master_fd: int, slave_fd: int) -> tuple[int, int, int]:
    send(channel, {"terminal": True}, fds=(master_fd,))
    os.close(master_fd)
    return slave_fd, slave_fd, slave_fd


def _report(channel: socket, error: BaseException, step: str) -> None:
    """Tell the monitor why there will be no process. ``kind`` decides how the engine words and classifies it."""
    message: Message
    if isinstance(error, ProcessError):
        message = {"failed": "process", "message": str(error), "code": error.exit_code}
    elif isinstance(error, Unsupported):
        message = {"failed": "unsupported", "message": str(error), "code": 128}
    elif isinstance(error, OSError):
        where = f" ({step})" if step else ""
        code = 127 if isinstance(error, NotADirectoryError) and step == "AttachBind" else 128
        message = {"failed": "system", "message": f"{error.strerror or error}{where}", "code": code}
    else:
        message = {"failed": "fault", "message": f"{type(error).__name__}: {error}", "code": 128}
    try:
        send(channel, message)
    except OSError:
        os._exit(254)  # the monitor is gone: nobody is left to tell

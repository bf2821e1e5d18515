"""One container's monitor: starts process 1, serves until it ends, records how it ended, and outlives the engine.

Single-threaded and small: one epoll loop. It is forked from the launcher for each container, forks process 1 and later the
execs (its children are born in the container's PID namespace), and ends when process 1 has ended and everybody has been told.
This module is its life: start, loop, end. What it serves is left to others: ``output`` reads the container's streams, for the log
and the clients in ``attachments``; ``control`` holds the engine's connections, ``requests`` answers them, with ``container`` and
``execs``. They share one epoll object and hand each other nothing but calls; whoever comes first never knows who comes later::

    watch ← attachments ← output ┐
    container ← control ← execs ←┴ requests ← monitor

State directory::

    monitor.sock   SEQPACKET, mode 0600; any number of control connections (see ``requests``)
    status.json    pid, monitor_pid, started_at_ns, cgroup_path: what is needed to clean up after a monitor that was killed
    exit.json      code, finished_at_ns, oom_killed; appears complete (renamed) and after the last output is in the log
    monitor.log    faults of the monitor itself; normally empty
"""

from __future__ import annotations

import gc
import os
import select
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket

from kitepy.engine.kernel import namespaces, syscalls
from kitepy.engine.kernel.cgroups import OomWatch
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.packets import Message, encode_json, error_text, send, unpack
from kitepy.engine.model.errors import Unsupported
from kitepy.engine.runtime import attach as streams
from kitepy.engine.runtime.attach import StdinQueue
from kitepy.engine.runtime.attachments import Attachments, StdinFeed
from kitepy.engine.runtime.children import Child, fork_in_advance, give_orders, proceed, spawn_first_process
from kitepy.engine.runtime.container import Container, remove_cgroup
from kitepy.engine.runtime.control import Controls
from kitepy.engine.runtime.execs import Execs
from kitepy.engine.runtime.init import Machine, invalid_document, read_request
from kitepy.engine.runtime.logfile import STDERR, STDOUT, JsonFileLog, NoLog
from kitepy.engine.runtime.output import Outputs
from kitepy.engine.runtime.plan import Plan, outline, plan_operations
from kitepy.engine.runtime.requests import Requests
from kitepy.engine.runtime.watch import READ, OutputWatch

_SIGCHLD = 17
_SHUTDOWN_SIGNALS = (1, 2, 15)
"""SIGHUP, SIGINT, SIGTERM"""


def become_monitor(machine: Machine) -> None:
    """What does not depend on the container: a session, a name, and how signals are taken."""
    syscalls.default_signal(_SIGCHLD)
    for number in _SHUTDOWN_SIGNALS:
        # When the machine shuts down, the container gets its own signal; the monitor stays to record how it ends.
        syscalls.ignore_signal(number)
    os.setsid()
    syscalls.set_name("kitepy-monitor")
    if not machine.driver.version:
        syscalls.set_child_subreaper()  # without control groups the container's processes are found by descent


def prepare_first_process(machine: Machine, launcher: socket | None) -> Child | None:
    """Process 1 of whatever container comes; None where it is better born later, in its control group (cgroup v2)."""
    return fork_in_advance(machine, launcher) if machine.driver.version != 2 else None


def run_monitor(packet: bytes, fds: list[int], machine: Machine, prepared: Child | None = None) -> None:
    """Be the monitor of one container; never returns. ``fds`` come in the order of the request's ``fds``.

    ``packet`` is the engine's request; ``prepared`` is from ``prepare_first_process``; it is used if it suits the container.
    """
    code = 70
    try:
        start = _Start(packet, fds, machine, prepared)
        _leave_engine_stdio(start.state_dir)
        _run(start)
        code = 0
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    os._exit(code)


def _leave_engine_stdio(state_dir: str) -> None:
    os.chdir(state_dir)
    null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    log_fd = os.open("monitor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for target, source in ((0, null_fd), (1, null_fd), (2, log_fd)):
        os.dup2(source, target)
    os.close(null_fd)
    os.close(log_fd)


def _run(start: _Start) -> None:
    """Start process 1, serve until it ends, report, end."""
    for name in ("exit.json", "monitor.sock", "status.json"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue
    try:
        outcome = start.execute()
    except Unsupported as error:
        outcome = {"failed": "unsupported", "message": str(error), "code": 128}
    except (ValueError, KeyError) as error:
        outcome = invalid_document(error)
    except OSError as error:
        outcome = {"failed": "system", "message": error_text(error), "code": 128}
    if isinstance(outcome, Monitor):
        gc.enable()
        outcome.serve()
    else:
        start.give_up(outcome)


class _Start:
    """From the engine's request to a process 1 that executes the user's program."""

    def __init__(self, packet: bytes, fds: list[int], machine: Machine, prepared: Child | None) -> None:
        request, self._program = unpack(packet)
        self._request = request
        self._prepared = prepared
        self._machine = machine
        names = request["fds"]
        assert isinstance(names, list)
        by_name = dict(zip(names, fds, strict=True))
        self._netns_fd: int | None = by_name.get("netns")
        self._starter = socket(AF_UNIX, SOCK_SEQPACKET, 0, by_name["control"])
        self._early_attachments = [(wish, by_name[f"attach{index}"]) for index, wish in enumerate(_list(request.get("attach")))]
        self._open_stdin = bool(request.get("open_stdin"))
        self._proceeded = False
        self._plan = Plan()
        self.state_dir = str(request["state_dir"])
        if prepared is not None:
            # At once, although it is not sure yet that the container can have it: while it plans, there is other work here.
            try:
                give_orders(prepared, packet, self._netns_fd, open_stdin=self._open_stdin)
            except (BrokenPipeError, ConnectionResetError):  # somebody ended it; another one can be forked
                self._discard_prepared()

    def execute(self) -> Monitor | Message:
        """The monitor of the running container; why there is none when its program can't be executed."""
        document, launch = read_request(self._request, self._machine.hierarchies)
        self._plan = outline(document, launch)
        first = self._take_prepared()
        log = self._prepare()
        monitor: Monitor | None = None
        if first is None:
            plan_operations(self._plan, document, launch)
            first = self._fork()
        else:
            self._proceeded = True
            proceed(first)
            if not self._plan.terminal:
                monitor = self._make_monitor(first, log)  # while process 1 is on its way
        if self._netns_fd is not None:
            os.close(self._netns_fd)
        failure, master_fd = first.wait_until_executed(self._starter.fileno())
        if failure is not None:
            first.kill_and_reap()
            if monitor is not None:
                monitor.disappear()
            return failure
        if self._plan.pid_namespace == "":
            first.adopt_pid_namespace()
        if monitor is None:
            monitor = self._make_monitor(first, log, master_fd)
        monitor.announce(self._starter)
        return monitor

    def _make_monitor(self, first: Child, log: JsonFileLog | NoLog, master_fd: int = -1) -> Monitor:
        container = Container(self._plan, self._machine, first)
        stdin_once = bool(self._request.get("stdin_once"))
        monitor = Monitor(container, log, master_fd, open_stdin=self._open_stdin, stdin_once=stdin_once)
        monitor.open(self._early_attachments)
        return monitor

    def give_up(self, failure: Message) -> None:
        """Leave nothing behind and tell the engine why."""
        if self._prepared is not None and not self._proceeded:
            self._prepared.kill_and_reap()
        if self._plan.cgroup_path:
            remove_cgroup(self._machine, self._plan.cgroup_path)
        try:
            send(self._starter, {"event": "failed", **failure})
        except OSError:
            os.write(2, f"start failed with nobody to tell: {failure['message']}\n".encode())

    def _take_prepared(self) -> Child | None:
        """The process 1 that was forked in advance, unless this container needs one that is born elsewhere."""
        child, plan = self._prepared, self._plan
        if child is not None and (plan.pid_namespace != "" or plan.user_namespace is not None or plan.fuse is not None):
            self._discard_prepared()
            return None
        if child is not None and plan.terminal:
            child.drop_pipes()
        return child

    def _discard_prepared(self) -> None:
        assert self._prepared is not None
        self._prepared.kill_and_reap()
        self._prepared.forget()
        self._prepared = None

    def _prepare(self) -> JsonFileLog | NoLog:
        """Control group and log, while a prepared process 1 makes its plan."""
        self._machine.driver.create(self._plan.cgroup_path, self._plan.resources)
        return self._open_log()

    def _open_log(self) -> JsonFileLog | NoLog:
        log = self._request["log"]
        assert isinstance(log, dict)
        if log["path"] is None:
            return NoLog()
        return JsonFileLog(
            log["path"], log["max_size_bytes"], log["max_files"], compress=log["compress"], attributes=log["attributes"]
        )

    def _fork(self) -> Child:
        # Outside of the container's processes, which must not see or end it.
        fuse = FuseServer(*self._plan.fuse) if self._plan.fuse is not None else None
        if self._plan.pid_namespace:
            fd = os.open(self._plan.pid_namespace, os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(fd, namespaces.CLONE_NEWPID)
            os.close(fd)
        first = spawn_first_process(
            self._plan,
            self._machine,
            self._netns_fd,
            self._program,
            fuse,
            open_stdin=self._open_stdin,
            with_init=bool(self._request.get("init")),
        )
        if fuse is not None:
            fuse.release()
        return first


class Monitor:
    """The loop of a running container, and its end."""

    def __init__(
        self, container: Container, log: JsonFileLog | NoLog, master_fd: int, *, open_stdin: bool, stdin_once: bool
    ) -> None:
        """``master_fd`` is the terminal's; -1: the process has pipes."""
        self._container = container
        self._log = log
        self._told_of_losses = False
        self._epoll = select.epoll(sizehint=8)
        first = container.first
        terminal = container.plan.terminal
        watch = OutputWatch(self._epoll)
        stdin: StdinFeed | None = None
        if terminal and open_stdin:
            stdin = StdinFeed(StdinQueue(master_fd, is_terminal=True), self._epoll, watch)
        elif not terminal and first.stdin_fd >= 0:
            os.set_blocking(first.stdin_fd, False)
            stdin = StdinFeed(StdinQueue(first.stdin_fd, is_terminal=False), self._epoll, watch)
        self._attachments = Attachments(
            self._epoll, stdin, stdin_once=stdin_once, terminal=terminal, overflow_directory=log.directory
        )
        self._outputs = Outputs(watch, log, self._attachments)
        if terminal:
            self._outputs.add_terminal(master_fd)
        else:
            self._outputs.add(first.stdout_fd, STDOUT, streams.STDOUT)
            self._outputs.add(first.stderr_fd, STDERR, streams.STDERR)
        self._controls = Controls(self._epoll, container)
        self._execs = Execs(self._epoll, container, self._controls)
        self._memory: OomWatch | None = None
        self._requests = Requests(self._controls, container, self._execs, self._attachments, self._outputs, log)

    def open(self, early_attachments: list[tuple[Message, int]]) -> None:
        """Attach those who are not to miss the first output, and appear in the state directory."""
        for wish, fd in early_attachments:
            self._attachments.add(wish, fd)
        self._epoll.register(self._container.first.pidfd, READ)
        self._controls.listen()

    def disappear(self) -> None:
        """Process 1 never came to execute its program."""
        self._controls.close_listener()

    def announce(self, starter: socket) -> None:
        """Tell who asked for the start, and whoever comes later, that the program runs."""
        self._container.started_at_ns = time.time_ns()
        status = self._container.status(self._log.lost_bytes)
        _write_file("status.json", status)
        try:
            send(starter, {"event": "started", **status})
        except OSError:
            self._container.end_unknown()
        self._controls.add_starter(starter)
        # Only now, since a start doesn't have to wait for it: what is missed meanwhile is told with the exit.
        self._memory = self._container.watch_memory()
        if self._memory is not None:
            self._epoll.register(self._memory.fd, self._memory.poll_events)

    def serve(self) -> None:
        """The loop; returns when the container has ended and everybody has been told."""
        pidfd = self._container.first.pidfd
        while True:
            events = self._epoll.poll(0 if self._log.busy else 0.1 if self._outputs.held_up else -1)
            if not events and self._log.busy:
                self._log.work_on()
            if self._outputs.held_up:
                self._outputs.try_to_go_on()
            ended = False
            for fd, mask in events:
                if fd == pidfd:
                    ended = True  # after the other events of this round: they may hold its last output
                elif fd in self._outputs:  # before the attachments: a terminal is in both
                    self._outputs.serve(fd, mask)
                elif fd in self._attachments:
                    self._attachments.serve(fd, mask)
                elif fd in self._controls:
                    self._requests.serve(fd)
                elif fd in self._execs:
                    self._execs.serve(fd)
                elif fd == self._controls.listener_fd:
                    self._controls.accept()
                elif self._memory is not None and fd == self._memory.fd and self._memory.happened():
                    self._container.oom = True
                    self._controls.tell_all({"event": "oom"})
            if self._log.lost_bytes and not self._told_of_losses:
                self._told_of_losses = True
                self._controls.tell_all({"event": "log-lost"})
            if ended:
                self._finish()
                return

    def _finish(self) -> None:
        code = self._container.reap()
        finished_at_ns = time.time_ns()
        self._container.kill_the_rest()
        self._execs.finish()
        self._outputs.drain()
        self._log.close()
        out_of_memory = self._container.ran_out_of_memory()
        self._container.remove_cgroup()
        status: Message = {"code": code, "finished_at_ns": finished_at_ns, "oom_killed": out_of_memory}
        _write_file("exit.json", status, durable=True)
        self._controls.close_listener()
        self._controls.tell_all({"event": "exit", **status})
        self._attachments.finish()


def _write_file(name: str, content: Message, *, durable: bool = False) -> None:
    temporary = f".{name}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, encode_json(content).encode())
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name)


def _list(value: object) -> list[Message]:
    return value if isinstance(value, list) else []

"""One container's monitor: owns its stdio, log, exit status and control socket, and outlives the engine.

Single-threaded and small: one epoll loop. It is forked from the launcher for each container, forks process 1 and later the
execs (its children are born in the container's PID namespace), and ends when process 1 has ended and everybody has been told.

State directory::

    monitor.sock   SEQPACKET, mode 0600; any number of control connections (see ``_REQUESTS``)
    status.json    pid, monitor_pid, started_at_ns, cgroup_path: what is needed to clean up after a monitor that was killed
    exit.json      code, finished_at_ns, oom_killed; appears complete (renamed) and after the last output is in the log
    monitor.log    faults of the monitor itself; normally empty
"""

from __future__ import annotations

import gc
import os
import select
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, socket

from kitepy.engine.kernel import namespaces, syscalls, tty
from kitepy.engine.model.errors import EngineError, Unsupported
from kitepy.engine.runtime import attach as streams
from kitepy.engine.runtime.attach import Attachment, StdinQueue
from kitepy.engine.runtime.children import Child, ExecChild, spawn_exec, spawn_first_process
from kitepy.engine.runtime.init import Machine
from kitepy.engine.runtime.logfile import STDERR, STDOUT, JsonFileLog, NoLog
from kitepy.engine.runtime.packets import Message, decode_json, encode_json, receive, send
from kitepy.engine.runtime.plan import Launch, Plan, make_plan

_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR
_SIGKILL = 9
_SIGCHLD = 17
_SHUTDOWN_SIGNALS = (1, 2, 15)
"""SIGHUP, SIGINT, SIGTERM"""
_CHUNK = 64 * 1024
_DRAIN_LIMIT_S = 0.5


def run_monitor(request: Message, fds: list[int], seccomp_program: bytes, machine: Machine) -> None:
    """Be the monitor of one container; never returns. ``fds`` come in the order of ``request["fds"]``."""
    code = 70
    try:
        syscalls.default_signal(_SIGCHLD)
        for number in _SHUTDOWN_SIGNALS:
            # When the machine shuts down, the container gets its own signal; the monitor stays to record how it ends.
            syscalls.ignore_signal(number)
        os.setsid()
        syscalls.set_name("kitepy-monitor")
        _leave_engine_stdio(str(request["state_dir"]))
        Monitor(request, fds, seccomp_program, machine).run()
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


class _Output:
    """One stream that the container writes to."""

    def __init__(self, fd: int, stream: str, kind: bytes) -> None:
        self.fd = fd
        self.stream = stream
        self.kind = kind
        os.set_blocking(fd, False)


class Monitor:
    """The loop and its state."""

    def __init__(self, request: Message, fds: list[int], seccomp_program: bytes, machine: Machine) -> None:
        self._request = request
        self._machine = machine
        self._program = seccomp_program
        names = request["fds"]
        assert isinstance(names, list)
        by_name = dict(zip(names, fds, strict=True))
        self._netns_fd: int | None = by_name.get("netns")
        self._controls: dict[int, socket] = {}
        self._starter = socket(AF_UNIX, SOCK_SEQPACKET, 0, by_name["control"])
        self._early_attachments = [(wish, by_name[f"attach{index}"]) for index, wish in enumerate(_list(request.get("attach")))]
        self._attachments: dict[int, Attachment] = {}
        self._execs: dict[int, ExecChild] = {}
        self._starting_execs: dict[int, ExecChild] = {}
        self._outputs: dict[int, _Output] = {}
        self._stdin: StdinQueue | None = None
        self._epoll = select.epoll(sizehint=8)
        self._listener: socket | None = None
        self._log: JsonFileLog | NoLog = NoLog()
        self._plan = Plan()
        self._first = Child(0, -1)
        self._master_fd = -1
        self._started_at_ns = 0
        self._paused = False
        self._held_up = False
        self._kept = False
        """The engine has read that the container started. Until then its hanging up means that the start was given up."""

    # --- start ---

    def run(self) -> None:
        """Start process 1, serve until it ends, report, end."""
        for name in ("exit.json", "monitor.sock", "status.json"):
            try:
                os.unlink(name)
            except FileNotFoundError:
                continue
        try:
            self._plan = self._make_plan()
            self._machine.driver.create(self._plan.cgroup_path, self._plan.resources)
            self._open_log()
            failure = self._start()
        except Unsupported as error:
            failure = {"failed": "unsupported", "message": str(error), "code": 128}
        except (ValueError, KeyError) as error:
            failure = {"failed": "fault", "message": f"invalid OCI document: {error}", "code": 128}
        except OSError as error:
            failure = {"failed": "system", "message": _words(error), "code": 128}
        if failure is not None:
            if self._plan.cgroup_path:
                self._remove_cgroup()
            try:
                send(self._starter, {"event": "failed", **failure})
            except OSError:
                os.write(2, f"start failed with nobody to tell: {failure['message']}\n".encode())
            return
        self._program = b""
        gc.enable()
        self._serve()

    def _make_plan(self) -> Plan:
        bundle = str(self._request["bundle"])
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            document = decode_json(file.read().decode())
        if not isinstance(document, dict):
            raise ValueError("config.json must hold an object")
        overlay = self._request.get("overlay")
        launch = Launch(
            str(self._request["id"]),
            bundle,
            overlay if isinstance(overlay, dict) else None,
            self._netns_fd is not None,
            self._machine.hierarchies,
        )
        return make_plan(document, launch)

    def _open_log(self) -> None:
        log = self._request["log"]
        assert isinstance(log, dict)
        if log["driver"] == "json-file":
            self._log = JsonFileLog(log["path"], log["max_size_bytes"], log["max_files"])

    def _start(self) -> Message | None:
        """Fork process 1 and wait until it executes the user's program; the failure when it can't."""
        if self._plan.pid_namespace == "":
            namespaces.unshare(namespaces.CLONE_NEWPID)
        elif self._plan.pid_namespace is not None:
            fd = os.open(self._plan.pid_namespace, os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(fd, namespaces.CLONE_NEWPID)
            os.close(fd)
        open_stdin = bool(self._request.get("open_stdin"))
        first = spawn_first_process(self._plan, self._machine, self._netns_fd, self._program, open_stdin=open_stdin)
        self._first = first
        if self._netns_fd is not None:
            os.close(self._netns_fd)
        failure, self._master_fd = first.wait_until_executed(self._starter.fileno())
        if failure is not None:
            first.kill_and_reap()
            return failure
        self._started_at_ns = time.time_ns()
        if self._plan.terminal:
            self._add_output(_Output(self._master_fd, STDOUT, streams.STDOUT))
            self._stdin = StdinQueue(self._master_fd, is_terminal=True) if open_stdin else None
        else:
            self._add_output(_Output(first.stdout_fd, STDOUT, streams.STDOUT))
            self._add_output(_Output(first.stderr_fd, STDERR, streams.STDERR))
            if first.stdin_fd >= 0:
                os.set_blocking(first.stdin_fd, False)
                self._stdin = StdinQueue(first.stdin_fd, is_terminal=False)
        for wish, fd in self._early_attachments:
            self._add_attachment(wish, fd)
        self._epoll.register(first.pidfd, _READ)
        self._listen()
        self._write_file("status.json", self._status())
        try:
            send(self._starter, {"event": "started", **self._status()})
        except OSError:
            self._end_unknown()
        self._add_control(self._starter)
        return None

    def _end_unknown(self) -> None:
        """Nobody knows of this container: end it in the ordinary way."""
        try:
            namespaces.pidfd_send_signal(self._first.pidfd, _SIGKILL)
        except ProcessLookupError:
            return

    def _listen(self) -> None:
        self._listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
        mask = os.umask(0o177)
        self._listener.bind("monitor.sock")  # relative: the full path may exceed the 107 bytes an address holds
        os.umask(mask)
        self._listener.listen(128)
        self._epoll.register(self._listener.fileno(), _READ)

    def _status(self) -> Message:
        return {
            "pid": self._first.pid,
            "monitor_pid": os.getpid(),
            "started_at_ns": self._started_at_ns,
            "cgroup_path": self._plan.cgroup_path,
            "paused": self._paused,
            "terminal": self._plan.terminal,
            "lost_log_bytes": self._log.lost_bytes,
        }

    # --- the loop ---

    def _serve(self) -> None:
        listener_fd = self._listener.fileno() if self._listener is not None else -1
        while True:
            events = self._epoll.poll(0.1 if self._held_up else -1)
            if self._held_up:
                self._continue_outputs()
            ended = False
            for fd, mask in events:
                if fd == self._first.pidfd:
                    ended = True  # after the other events of this round: they may hold its last output
                elif fd in self._outputs:
                    self._read_output(self._outputs[fd], mask)
                elif fd in self._attachments:
                    self._serve_attachment(self._attachments[fd], mask)
                elif fd in self._controls:
                    self._serve_control(self._controls[fd])
                elif fd in self._execs:
                    self._exec_ended(self._execs[fd])
                elif fd in self._starting_execs:
                    self._exec_started(self._starting_execs[fd])
                elif fd == listener_fd:
                    self._accept()
                elif self._stdin is not None and fd == self._stdin.fd:
                    self._flush_stdin()
            if ended:
                self._finish()
                return

    # --- output ---

    def _add_output(self, output: _Output) -> None:
        self._outputs[output.fd] = output
        self._epoll.register(output.fd, _READ)

    def _read_output(self, output: _Output, mask: int) -> None:
        if output.fd == self._master_fd and mask & _WRITE:
            self._flush_stdin()
        if not mask & (_READ | _GONE):
            return
        if self._read_chunk(output) and any(self._is_held_up()):
            self._held_up = True
            for fd in self._outputs:
                self._epoll.unregister(fd)

    def _read_chunk(self, output: _Output) -> bool:
        """Pass one chunk on; False when there was none. Closes the stream at its end."""
        try:
            chunk = os.read(output.fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""  # EIO: the last user of the terminal has closed it
        if not chunk:
            self._close_output(output)
            return False
        self._log.write(output.stream, chunk)
        if self._attachments:
            now = time.monotonic()
            for attachment in list(self._attachments.values()):
                attachment.put(output.kind, chunk, now)
                self._watch_attachment(attachment)
        return True

    def _is_held_up(self) -> list[bool]:
        now = time.monotonic()
        alone = len(self._attachments) == 1 and isinstance(self._log, NoLog)
        waits = [attachment.holds_up(now, patient=alone) for attachment in self._attachments.values()]
        for attachment in [attachment for attachment in self._attachments.values() if attachment.dead]:
            self._drop_attachment(attachment)
        return waits

    def _continue_outputs(self) -> None:
        if not any(self._is_held_up()):
            self._held_up = False
            for fd in self._outputs:
                self._epoll.register(fd, _READ)

    def _close_output(self, output: _Output) -> None:
        self._log.finish(output.stream)
        del self._outputs[output.fd]
        if not self._held_up:
            self._epoll.unregister(output.fd)
        if output.fd == self._master_fd:
            if self._stdin is not None:
                self._stdin.fd = -1
            self._master_fd = -1
        os.close(output.fd)

    # --- attaching ---

    def _add_attachment(self, wish: Message, fd: int) -> None:
        channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)
        attachment = Attachment(
            channel,
            stdin=bool(wish.get("stdin")) and self._stdin is not None,
            stdout=bool(wish.get("stdout")),
            stderr=bool(wish.get("stderr")),
            drops_when_stalled=self._plan.terminal,
            overflow_directory=self._log.directory,
        )
        self._attachments[attachment.fd] = attachment
        self._epoll.register(attachment.fd, _READ)

    def _watch_attachment(self, attachment: Attachment) -> None:
        if attachment.dead:
            self._drop_attachment(attachment)
            return
        mask = _WRITE if attachment.pending else 0
        if not (attachment.stdin and self._stdin is not None and self._stdin.full):
            mask |= _READ
        self._epoll.modify(attachment.fd, mask)

    def _serve_attachment(self, attachment: Attachment, mask: int) -> None:
        if mask & _WRITE:
            attachment.flush(time.monotonic())
        if mask & (_READ | _GONE):
            self._read_attachment(attachment)
        if attachment.fd in self._attachments:
            self._watch_attachment(attachment)

    def _read_attachment(self, attachment: Attachment) -> None:
        try:
            packet = attachment.channel.recv(streams.MAX_DATA + 1)
        except (BlockingIOError, ConnectionResetError):
            return  # a reset says that the client left output unread; what it had sent before can still be read
        except OSError:
            packet = b""
        if not packet:
            self._drop_attachment(attachment)
            return
        self._take_input(attachment, packet)

    def _take_input(self, attachment: Attachment, packet: bytes) -> None:
        if not attachment.stdin or self._stdin is None:
            return
        if packet[:1] == streams.STDIN:
            self._stdin.put(packet[1:])
        elif packet[:1] == streams.STDIN_END:
            self._stdin.end()
        self._watch_stdin()
        if self._stdin.broken or not self._stdin.is_open:
            self._tell_stdin_broken()

    def _tell_stdin_broken(self) -> None:
        if self._stdin is None or not self._stdin.broken:
            return
        now = time.monotonic()
        for attachment in self._attachments.values():
            if attachment.stdin:
                attachment.put(streams.STDIN_BROKEN, b"", now)
                attachment.stdin = False

    def _drop_attachment(self, attachment: Attachment) -> None:
        del self._attachments[attachment.fd]
        self._epoll.unregister(attachment.fd)
        while attachment.stdin:  # input that was sent before the client left still counts
            try:
                packet = attachment.channel.recv(streams.MAX_DATA + 1)
            except ConnectionResetError:
                continue
            except OSError:
                break
            if not packet:
                break
            self._take_input(attachment, packet)
        attachment.close()
        if attachment.stdin and self._request.get("stdin_once") and self._stdin is not None:
            self._stdin.end()

    def _watch_stdin(self) -> None:
        """Ask to be told when the process has room for more input."""
        queue = self._stdin
        if queue is None or not queue.is_open:
            return
        if queue.fd in self._outputs:
            if not self._held_up:
                self._epoll.modify(queue.fd, _READ | (_WRITE if queue.pending else 0))
            return
        try:
            if queue.pending:
                self._epoll.register(queue.fd, _WRITE)
            else:
                self._epoll.unregister(queue.fd)
        except (FileExistsError, FileNotFoundError):
            return  # already as wanted

    def _flush_stdin(self) -> None:
        queue = self._stdin
        if queue is None:
            return
        queue.flush()
        self._watch_stdin()
        self._tell_stdin_broken()
        for attachment in list(self._attachments.values()):
            self._watch_attachment(attachment)

    # --- control ---

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # the C half of socket.accept
        except OSError:
            return
        os.set_inheritable(fd, False)
        self._add_control(socket(AF_UNIX, SOCK_SEQPACKET, 0, fd))

    def _add_control(self, control: socket) -> None:
        control.setblocking(False)
        self._controls[control.fileno()] = control
        self._epoll.register(control.fileno(), _READ)

    def _drop_control(self, control: socket) -> None:
        self._epoll.unregister(control.fileno())
        del self._controls[control.fileno()]
        control.close()
        if control is self._starter and not self._kept:
            self._end_unknown()

    def _tell(self, control: socket, message: Message, fds: tuple[int, ...] = ()) -> None:
        if control.fileno() not in self._controls:
            return  # the engine that asked is gone
        try:
            send(control, message, fds=fds)
        except OSError:
            self._drop_control(control)

    def _serve_control(self, control: socket) -> None:
        try:
            received = receive(control)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            received = None
        if received is None:
            self._drop_control(control)
            return
        message, payload, fds = received
        sequence = message.get("seq")
        try:
            reply = self._answer(control, message, payload, fds)
        except EngineError as error:
            reply = {"error": "unsupported", "message": str(error)}
        except OSError as error:
            reply = {"error": "gone" if error.errno == 3 else "system", "message": _words(error)}
        except (KeyError, TypeError, ValueError) as error:
            reply = {"error": "fault", "message": f"{type(error).__name__}: {error}"}
        if reply is not None:
            self._tell(control, {"seq": sequence, **reply})

    def _answer(self, control: socket, message: Message, payload: bytes, fds: list[int]) -> Message | None:
        """Carry out one request; None when the answer comes later. Descriptors not taken over are closed."""
        operation = message.get("op")
        kept = operation in ("attach", "exec")
        if not kept:
            for fd in fds:
                os.close(fd)
        if operation == "status":
            return self._status()
        if operation == "keep":
            self._kept = True
            return None
        if operation == "signal":
            return self._send_signal(_integer(message["number"]))
        if operation == "resize":
            if self._master_fd >= 0:
                tty.set_size(self._master_fd, _integer(message["rows"]), _integer(message["columns"]))
            return {}
        if operation in ("pause", "unpause"):
            self._set_paused(operation == "pause")
            return {}
        if operation == "update":
            resources = message["resources"]
            assert isinstance(resources, dict)
            self._machine.driver.update(self._plan.cgroup_path, resources)
            return {}
        if operation == "attach":
            self._add_attachment(message, fds[0])
            return {}
        if operation == "exec":
            return self._start_exec(control, message, payload, fds)
        if operation == "exec-signal":
            for child in self._execs.values():
                if child.exec_id == message["exec_id"]:
                    namespaces.pidfd_send_signal(child.pidfd, _integer(message["number"]))
                    return {}
            return {"error": "gone", "message": f"no running exec {message['exec_id']}"}
        return {"error": "fault", "message": f"unknown request {operation!r}"}

    def _send_signal(self, number: int) -> Message:
        namespaces.pidfd_send_signal(self._first.pidfd, number)
        if number == _SIGKILL and self._paused:
            self._set_paused(False)  # a frozen process does not die before it thaws
        return {}

    def _set_paused(self, paused: bool) -> None:
        if paused:
            self._machine.driver.freeze(self._plan.cgroup_path)
        else:
            self._machine.driver.thaw(self._plan.cgroup_path)
        self._paused = paused

    # --- exec ---

    def _start_exec(self, control: socket, message: Message, payload: bytes, fds: list[int]) -> Message | None:
        if self._paused:
            for fd in fds:
                os.close(fd)
            return {"error": "paused", "message": "container is paused, unpause the container before exec"}
        process = message["process"]
        assert isinstance(process, dict)
        child = spawn_exec(
            process,
            self._machine,
            self._first.pidfd,
            self._plan.cgroup_path,
            payload,
            self._plan.seccomp_flags,
            fds,
            str(message["exec_id"]),
        )
        child.control = control
        child.sequence = message.get("seq")
        assert child.channel is not None
        child.channel.setblocking(False)
        self._starting_execs[child.channel.fileno()] = child
        self._epoll.register(child.channel.fileno(), _READ)
        return None

    def _exec_started(self, child: ExecChild) -> None:
        channel = child.channel
        assert channel is not None
        assert child.control is not None
        try:
            received = receive(channel)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is not None and "failed" not in received[0]:
            child.terminal_fds += received[2]
            return
        del self._starting_execs[channel.fileno()]
        self._epoll.unregister(channel.fileno())
        channel.close()
        child.channel = None
        if received is not None:
            child.kill_and_reap()
            self._tell(child.control, {"seq": child.sequence, "error": "start", **received[0]})
        else:
            self._tell(child.control, {"seq": child.sequence, "pid": child.pid}, tuple(child.terminal_fds))
            self._execs[child.pidfd] = child
            self._epoll.register(child.pidfd, _READ)
        for fd in child.terminal_fds:
            os.close(fd)
        child.terminal_fds = []

    def _exec_ended(self, child: ExecChild) -> None:
        code = child.reap()
        del self._execs[child.pidfd]
        self._epoll.unregister(child.pidfd)
        os.close(child.pidfd)
        assert child.control is not None
        event = {"event": "exec-exit", "exec_id": child.exec_id, "code": code, "finished_at_ns": time.time_ns()}
        self._tell(child.control, event)

    # --- the end ---

    def _finish(self) -> None:
        code = self._first.reap()
        finished_at_ns = time.time_ns()
        if self._plan.pid_namespace != "":
            self._machine.driver.kill(self._plan.cgroup_path)  # no namespace of its own took its children along
        for child in [*self._starting_execs.values()]:
            child.kill_and_reap()
            if child.control is not None:
                self._tell(child.control, {"seq": child.sequence, "error": "gone", "message": "the container has stopped"})
        for child in [*self._execs.values()]:
            self._exec_ended(child)
        self._drain()
        self._log.close()
        out_of_memory = self._machine.driver.oom_kills(self._plan.cgroup_path) > 0
        self._remove_cgroup()
        status: Message = {"code": code, "finished_at_ns": finished_at_ns, "oom_killed": out_of_memory}
        self._write_file("exit.json", status, durable=True)
        if self._listener is not None:
            self._listener.close()
            os.unlink("monitor.sock")
        for control in list(self._controls.values()):
            self._tell(control, {"event": "exit", **status})
        self._let_attachments_go()

    def _drain(self) -> None:
        """Read what is left. Streams that someone outside the container still holds open are given up after a moment."""
        self._held_up = True  # from here on outputs are read directly; nothing is registered or unregistered
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        while self._outputs:
            for output in list(self._outputs.values()):
                while self._read_chunk(output):
                    if time.monotonic() > deadline:
                        break
            remaining = deadline - time.monotonic()
            if not self._outputs or remaining <= 0:
                break
            poller = select.poll()
            for fd in self._outputs:
                poller.register(fd, select.POLLIN)
            poller.poll(remaining * 1000)

    def _remove_cgroup(self) -> None:
        for _ in range(50):
            try:
                self._machine.driver.remove(self._plan.cgroup_path)
                return
            except OSError:
                time.sleep(0.002)  # the last process is just leaving
        os.write(2, f"could not remove control group {self._plan.cgroup_path}\n".encode())

    def _let_attachments_go(self) -> None:
        """Send attached clients the rest. One that stalls is waited for as long as it stays connected: it holds up nobody now."""
        now = time.monotonic()
        for attachment in self._attachments.values():
            attachment.finish()
            attachment.flush(now)
        while True:
            poller = select.poll()
            for attachment in list(self._attachments.values()):
                if attachment.dead or not attachment.pending:
                    del self._attachments[attachment.fd]
                    attachment.close()
                else:
                    poller.register(attachment.fd, select.POLLOUT)
            if not self._attachments:
                return
            for fd, mask in poller.poll():
                attachment = self._attachments[fd]
                attachment.dead = attachment.dead or bool(mask & _GONE) or not attachment.flush(time.monotonic())

    def _write_file(self, name: str, content: Message, *, durable: bool = False) -> None:
        temporary = f".{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, encode_json(content).encode())
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name)


def _words(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _list(value: object) -> list[Message]:
    return value if isinstance(value, list) else []

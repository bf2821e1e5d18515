"""Docker's own command line against an engine under test, in a pipe or in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

_CACHE = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
CLIENTS = Path(os.environ.get("KITEPY_CLIENTS") or Path(_CACHE, "kitepy", "clients"))
"""Where packaging/clients.sh puts what it fetches."""
TIMEOUT_S = 60.0


def find_docker_cli(generation: str = "now") -> str:
    """Docker's command line: of today (``now``), or 20.10 (``old``)."""
    program = CLIENTS / generation / "docker"
    assert os.access(program, os.X_OK), f"{program} is not here: packaging/clients.sh fetches it, and `make test` calls that"
    return str(program)


class DockerCli:
    """Runs ``docker`` with a configuration directory of its own."""

    def __init__(self, program: str, url: str, config: Path) -> None:
        self.program = program
        # The engine builds with the classic builder; without this the command line looks for BuildKit first.
        self.environment = {
            **os.environ,
            "DOCKER_HOST": url,
            "DOCKER_CONFIG": str(config),
            "DOCKER_BUILDKIT": "0",
            "TERM": "xterm",
        }
        self.environment.pop("DOCKER_API_VERSION", None)

    def run(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a failure shows what it said."""
        done = subprocess.run(
            [self.program, *arguments], env=self.environment, input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False
        )
        result = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)} gave {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def output(self, *arguments: str) -> str:
        """What a command that succeeds prints, without the last line end."""
        return self.run(*arguments).stdout.rstrip("\n")

    @contextlib.contextmanager
    def background(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command that keeps printing; it is interrupted when the block ends."""
        process = subprocess.Popen(
            [self.program, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            if process.stdout:
                process.stdout.close()

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator[Terminal]:
        """A command in a terminal of its own."""
        terminal = Terminal([self.program, *arguments], self.environment)
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A program on a pseudo terminal: type, and wait for what it shows."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.seen = ""
        self._status: int | None = None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                os.execve(command[0], command, environment)  # noqa: S606  # after a fork, no shell is wanted
            finally:
                os._exit(127)

    def type(self, text: str) -> None:
        """Type some text; a line ends with a carriage return, as the Enter key sends it."""
        os.write(self._fd, text.encode())

    def expect(self, pattern: str, timeout_s: float = 20.0) -> re.Match[str]:
        """Wait until the output after the last match has the pattern, and forget what came before."""
        deadline = time.monotonic() + timeout_s
        while not (match := re.search(pattern, self.seen)):
            if not self._read(deadline):
                raise AssertionError(f"the terminal never showed {pattern!r}; it shows:\n{self.seen}")
        self.seen = self.seen[match.end() :]
        return match

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size; what runs in it is told by SIGWINCH."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send the program a signal that no key stands for."""
        os.kill(self._pid, number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Wait for the program's end and give its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"the program in the terminal does not end; it shows:\n{self.seen}")
            else:
                time.sleep(0.02)
        return self._status

    def close(self) -> None:
        """End the program if it still runs."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        os.close(self._fd)

    def _read(self, deadline: float) -> bool:
        """Read once; False at the end of the output or of the time."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False  # EIO: the program closed its side.
        self.seen += data.decode(errors="replace")
        return bool(data)

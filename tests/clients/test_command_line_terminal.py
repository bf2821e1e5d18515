"""Docker's command line in a terminal: keys, sizes, detaching and signals."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from support.docker_cli import DockerCli, Terminal

CTRL_C, CTRL_D, CTRL_P, CTRL_Q = "\x03", "\x04", "\x10", "\x11"


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true"
        time.sleep(0.02)


@contextlib.contextmanager
def started(docker: DockerCli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose signals a test sends itself."""
    command = [docker.program, *arguments]
    process = subprocess.Popen(command, env=docker.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def status(docker: DockerCli, name: str) -> str:
    return docker.output("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def test_a_shell_gets_ctrl_c_and_ctrl_d_and_the_terminal_is_as_before_afterwards(docker: DockerCli) -> None:
    script = f'stty -g >"$0".before; {docker.program} run --rm -it box sh; echo "code $?"; stty -g >"$0".after; cmp "$0".*'
    config = docker.environment["DOCKER_CONFIG"]
    with contextlib.closing(Terminal(["/bin/bash", "-c", script, f"{config}-stty"], docker.environment)) as terminal:
        terminal.expect("# ")
        terminal.type("sh -c 'trap \"exit 3\" INT; echo sleeping $((1 + 1)); while :; do sleep 0.1; done'\r")
        terminal.expect("sleeping 2")
        terminal.type(CTRL_C)
        terminal.expect(r"\^C")
        terminal.expect("# ")
        terminal.type("(exit 4)\r")
        terminal.expect("# ")
        terminal.type(CTRL_D)
        terminal.expect("code 4")
        assert terminal.wait() == 0, "the terminal's settings are what they were"


def test_a_terminal_s_size_follows_while_it_runs(docker: DockerCli) -> None:
    with docker.terminal("run", "--rm", "-it", "box", "sh") as terminal:
        terminal.expect("# ")
        terminal.resize(41, 123)
        # The size is passed on a moment later.
        terminal.type("until stty size | grep -q '41 123'; do :; done; echo size now $((41 + 123))\r")
        terminal.expect("size now 164")
        terminal.type("exit\r")
        assert terminal.wait() == 0


def test_an_exec_s_terminal_follows_too(docker: DockerCli) -> None:
    docker.run("run", "-d", "--name", "sized", "box", "sleep", "600")
    with docker.terminal("exec", "-it", "sized", "sh") as terminal:
        terminal.expect("# ")
        terminal.resize(42, 99)
        terminal.type("until stty size | grep -q '42 99'; do :; done; echo size now $((42 + 99))\r")
        terminal.expect("size now 141")
        terminal.type("exit 6\r")
        assert terminal.wait() == 6


def test_the_detach_keys_leave_it_running_and_attach_comes_back(docker: DockerCli) -> None:
    with docker.terminal("run", "-it", "--name", "left", "box", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("WORD=kept\r")
        terminal.expect("# ")
        terminal.type(CTRL_P + CTRL_Q)
        assert terminal.wait() == 0
    assert status(docker, "left") == "running 0"
    with docker.terminal("attach", "--detach-keys", "ctrl-a,z", "left") as terminal:
        terminal.type("echo $WORD word\r")
        terminal.expect("kept word")
        terminal.type("\x01z")
        terminal.expect("read escape sequence")
        # The command line calls detaching from attach an error.
        assert terminal.wait() == 1
    assert status(docker, "left") == "running 0"
    with docker.terminal("attach", "left") as terminal:
        terminal.type("exit 7\r")
        assert terminal.wait() == 7


def test_start_attached_and_interactive(docker: DockerCli) -> None:
    docker.run("create", "-it", "--name", "again", "box", "sh", "-c", "read line; echo got $line; exit 3")
    for word in ("one", "two"):
        with docker.terminal("start", "-ai", "again") as terminal:
            terminal.type(f"{word}\r")
            terminal.expect(f"got {word}")
            assert terminal.wait() == 3


def test_a_signal_to_the_command_line_reaches_the_container(docker: DockerCli) -> None:
    trap = "trap 'echo got it; exit 9' TERM HUP USR1; echo ready; while :; do sleep 0.05; done"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        with started(docker, "run", "--rm", "box", "sh", "-c", trap) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == "got it\n"
            assert process.wait(15) == 9


def test_a_signal_is_kept_from_the_container_where_that_was_asked_for(docker: DockerCli) -> None:
    with started(
        docker, "run", "--sig-proxy=false", "--name", "spared", "box", "sh", "-c", "echo ready; exec sleep 600"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        docker.run("exec", "spared", "true")
    assert status(docker, "spared") == "running 0"


def test_ctrl_c_of_a_container_without_a_terminal_is_passed_on(docker: DockerCli) -> None:
    with docker.terminal(
        "run", "--rm", "box", "sh", "-c", "trap 'exit 11' INT; echo ready; while :; do sleep 0.05; done"
    ) as terminal:
        terminal.expect("ready")
        terminal.type(CTRL_C)
        assert terminal.wait() == 11


def test_statistics_are_shown_until_they_are_interrupted(docker: DockerCli) -> None:
    docker.run("run", "-d", "--name", "measured", "box", "sleep", "600")
    with docker.terminal("stats", "measured") as terminal:
        terminal.expect(r"measured +\d+\.\d+%")
        terminal.expect(r"measured +\d+\.\d+%")


def test_what_follows_ends_with_ctrl_c_and_leaves_the_container_alone(docker: DockerCli) -> None:
    docker.run("run", "-d", "--name", "followed", "box", "sh", "-c", "echo ready; exec sleep 600")
    for command, shown in (
        (("logs", "-f", "followed"), "ready"),
        (("events", "--since", "1h"), "followed"),
    ):
        with docker.terminal(*command) as terminal:
            terminal.expect(shown)
            terminal.type(CTRL_C)
            terminal.wait()
    assert status(docker, "followed") == "running 0"


def test_two_attached_terminals_see_the_same(docker: DockerCli) -> None:
    docker.run("run", "-dit", "--name", "shared", "box", "sh")
    with docker.terminal("attach", "shared") as one, docker.terminal("attach", "shared") as other:
        for number, each in enumerate((one, other), 10):
            each.type(f"echo attached $(({number} + 1))\r")
            each.expect(f"attached {number + 1}")
        one.type("echo seen by $((1 + 1))\r")
        one.expect("seen by 2")
        other.expect("seen by 2")
        other.type("exit 5\r")
        assert other.wait() == 5
        assert one.wait() == 5


@pytest.mark.needs("limits")
def test_a_paused_container_s_attached_output_goes_on_afterwards(docker: DockerCli) -> None:
    with started(
        docker, "run", "--name", "halted", "-i", "box", "sh", "-c", "echo ready; while :; do echo more; sleep 0.05; done"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        docker.run("pause", "halted")
        until(lambda: status(docker, "halted") == "paused 0")
        docker.run("unpause", "halted")
        assert process.stdout.readline() == "more\n"
        docker.run("kill", "halted")
        process.communicate(timeout=15)
        assert process.returncode == 137

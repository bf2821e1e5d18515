"""More processes in a running container."""

from __future__ import annotations

import asyncio

import pytest
from support.runtime_lab import Lab, default_seccomp, make_document, make_process, read_all, read_until

from kitepy.engine.model.errors import Conflict, StartFailed
from kitepy.engine.runtime.client import ExecRequest, RunningContainer
from kitepy.engine.runtime.streams import StreamKind


async def _sleeper(lab: Lab) -> RunningContainer:
    return await lab.start(lab.request(make_document(["sleep", "1000"])))


def _request(script: str, name: str = "x", **process: object) -> ExecRequest:
    return ExecRequest(name, make_process(["sh", "-c", script], **process), default_seccomp(), stdin=True)


def test_an_exec_shares_everything_with_process_1(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        names = "cgroup ipc mnt net pid uts"
        test = "[ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ]"
        script = f"for n in {names}; do {test} && echo $n; done; cat /proc/self/cgroup"
        running = await container.exec(_request(script))
        output = (await read_all(running))[StreamKind.STDOUT].splitlines()
        assert output[:6] == names.split()
        assert all(line.endswith(":/") for line in output[6:])
        assert (await running.exited).code == 0

    lab.run(test)


def test_an_exec_is_confined_like_process_1(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        fields = "'^(Cap|Seccomp:|NoNewPrivs)'"
        running = await container.exec(
            _request(f"grep -E {fields} /proc/1/status > /tmp/a; grep -E {fields} /proc/self/status > /tmp/b; cmp /tmp/a /tmp/b")
        )
        assert await read_all(running) == {StreamKind.STDOUT: "", StreamKind.STDERR: ""}
        assert (await running.exited).code == 0

    lab.run(test)


def test_input_output_and_exit_code_of_an_exec(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        running = await container.exec(_request("cat; echo err >&2; exit 9"))
        await running.write(b"hello " * 20_000)
        await running.close_stdin()
        output = await read_all(running)
        assert output == {StreamKind.STDOUT: "hello " * 20_000, StreamKind.STDERR: "err\n"}
        assert (await running.exited).code == 9

    lab.run(test)


def test_a_terminal_exec_has_a_terminal_of_the_container(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        running = await container.exec(_request("tty; read x; stty size", terminal=True))
        await read_until(running, b"/dev/pts/0\r\n")
        await running.resize(33, 77)
        await running.write(b"go\n")
        assert (await read_until(running, b"77\r\n")).endswith(b"33 77\r\n")
        assert (await running.exited).code == 0
        await running.close()

    lab.run(test)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nonesuch"], 127, 'exec: "nonesuch": executable file not found in $PATH'),
        (["/bin"], 126, 'exec: "/bin": permission denied'),
    ],
)
def test_a_program_that_cannot_run_fails_the_exec_in_docker_s_words(lab: Lab, args: list[str], code: int, words: str) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        with pytest.raises(StartFailed) as caught:
            await container.exec(ExecRequest("x", make_process(args)))
        assert caught.value.exit_code == code
        assert str(caught.value) == f"OCI runtime exec failed: exec failed: unable to start container process: {words}"

    lab.run(test)


def test_a_signal_reaches_the_exec_only(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        running = await container.exec(_request("echo ready; exec sleep 1000"))
        await read_until(running, b"ready")
        await running.signal(15)
        assert (await running.exited).code == 143
        with pytest.raises(Conflict):
            await running.signal(15)
        assert not container.exited.done()

    lab.run(test)


def test_execs_end_with_the_container(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        running = await container.exec(_request("echo ready; exec sleep 1000"))
        await read_until(running, b"ready")
        await container.signal(9)
        assert (await container.exited).code == 137
        assert (await running.exited).code == 137
        with pytest.raises(Conflict, match="is not running"):
            await container.exec(_request("true"))

    lab.run(test)


def test_a_paused_container_takes_no_exec(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        await container.pause()
        with pytest.raises(Conflict, match="paused"):
            await container.exec(_request("true"))
        await container.unpause()

    lab.run(test)


def test_a_background_process_does_not_keep_the_exec_open(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)
        running = await container.exec(_request("sleep 1000 & echo started"))
        async with asyncio.timeout(5):
            assert (await read_all(running))[StreamKind.STDOUT] == "started\n"
        await running.close()

    lab.run(test)


def test_many_execs_at_once(lab: Lab) -> None:
    async def test() -> None:
        container = await _sleeper(lab)

        async def one(number: int) -> str:
            running = await container.exec(_request(f"echo {number}", f"x{number}"))
            return (await read_all(running))[StreamKind.STDOUT]

        outputs = await asyncio.gather(*(one(number) for number in range(40)))
        assert outputs == [f"{number}\n" for number in range(40)]

    lab.run(test)

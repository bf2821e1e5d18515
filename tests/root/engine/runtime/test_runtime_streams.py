"""Output, input and logs of running containers: nothing lost, nobody held up."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest
from support.runtime_lab import Lab, eventually, log_entries, make_document, read_all, read_until

from kitepy.engine.model.launch import LogTarget
from kitepy.engine.runtime.attach import STALL_LIMIT_S
from kitepy.engine.runtime.streams import AttachWish, StreamKind


def test_an_attachment_made_at_the_start_misses_nothing_of_a_fast_process(lab: Lab) -> None:
    async def test() -> None:
        for _ in range(20):
            request = lab.request(make_document(["sh", "-c", "echo out; echo err >&2"]))
            container = await lab.start(request, [AttachWish(), AttachWish(stderr=False)])
            await container.exited
            assert await read_all(container.attached[0]) == {StreamKind.STDOUT: "out\n", StreamKind.STDERR: "err\n"}
            assert await read_all(container.attached[1]) == {StreamKind.STDOUT: "out\n", StreamKind.STDERR: ""}

    lab.run(test)


def test_two_hundred_thousand_lines_reach_log_and_client_complete_and_in_order(lab: Lab) -> None:
    count = 200_000

    async def test() -> None:
        script = f"awk 'BEGIN {{ for (i = 0; i < {count}; i++) printf \"%0100d\\n\", i }}'"
        request = lab.request(make_document(["sh", "-c", script]))
        container = await lab.start(request, [AttachWish()])
        output = await read_all(container.attached[0])
        await container.exited
        expected = [f"{number:0100d}" for number in range(count)]
        assert output[StreamKind.STDOUT].splitlines() == expected
        assert [entry["log"].rstrip("\n") for entry in log_entries(request)] == expected

    lab.run(test)


def test_any_bytes_make_valid_log_lines(lab: Lab) -> None:
    async def test() -> None:
        script = (
            r"""printf 'a"b\\c\td\001\n\303\244\xff\xfe\n'; head -c 40000 /dev/zero | tr '\0' x; echo; printf 'no newline' """
        )
        request = lab.request(make_document(["sh", "-c", script]))
        await (await lab.start(request)).exited
        entries = [entry["log"] for entry in log_entries(request)]
        assert entries[:2] == ['a"b\\c\td\x01\n', "ä\ufffd\ufffd\n"]
        assert entries[2:] == ["x" * 16384, "x" * 16384, "x" * (40000 - 32768) + "\n", "no newline"]

    lab.run(test)


def test_logs_rotate_at_line_ends(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "for i in $(seq 1 300); do echo line $i; done"]))
        assert request.log.path is not None
        request = replace(request, log=LogTarget(request.log.path, max_size_bytes=4096, max_files=3))
        await (await lab.start(request)).exited
        files = sorted(request.log.path.parent.glob("log.json*"))
        assert [file.name for file in files] == ["log.json", "log.json.1", "log.json.2"]
        # The entry that reaches the bound is a file's last.
        assert files[0].stat().st_size > 0
        assert all(4096 <= file.stat().st_size < 4096 + 100 for file in files[1:])
        lines = "".join(file.read_text() for file in reversed(files)).splitlines()
        assert '"line 300\\n"' in lines[-1]
        assert len(lines) > 80

    lab.run(test)


def test_input_reaches_the_process_and_its_end_too(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["wc", "-c"]), stdin=True), [AttachWish(stdin=True)])
        stream = container.attached[0]
        await stream.write(b"x" * 1_000_000)
        await stream.close_stdin()
        assert (await read_all(stream))[StreamKind.STDOUT] == "1000000\n"

    lab.run(test)


def test_without_open_stdin_the_process_reads_end_of_file(lab: Lab) -> None:
    async def test() -> None:
        output, status = await lab.shell("cat; echo end")
        assert (output, status.code) == ("end\n", 0)

    lab.run(test)


def test_stdin_once_closes_the_input_with_the_first_client(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["cat"]), stdin=True, stdin_once=True)
        container = await lab.start(request, [AttachWish(stdin=True)])
        await container.attached[0].write(b"hello\n")
        await read_until(container.attached[0], b"hello")
        await container.attached[0].close()
        assert (await container.exited).code == 0

    lab.run(test)


def test_without_stdin_once_a_second_client_may_go_on(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["cat"]), stdin=True), [AttachWish(stdin=True)])
        await container.attached[0].close()
        second = await container.attach(stdin=True, stdout=True, stderr=True)
        await second.write(b"again\n")
        assert await read_until(second, b"\n") == b"again\n"
        await second.close_stdin()
        assert (await container.exited).code == 0

    lab.run(test)


def test_writing_to_a_process_that_closed_its_input_fails(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "exec <&-; echo closed; sleep 100"]), stdin=True)
        container = await lab.start(request, [AttachWish(stdin=True)])
        stream = container.attached[0]
        await read_until(stream, b"closed")
        reader = asyncio.ensure_future(stream.read())

        async def write_on() -> None:
            while True:
                await stream.write(b"x")
                await asyncio.sleep(0)

        with pytest.raises(BrokenPipeError):
            await write_on()
        reader.cancel()

    lab.run(test)


def test_a_stalled_client_gets_everything_later_while_log_and_others_go_on(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' 'x' | fold -w 99"]))
        container = await lab.start(request, [AttachWish(), AttachWish()])
        stalled, reading = container.attached
        begun = time.monotonic()
        output = await read_all(reading)
        await container.exited
        assert time.monotonic() - begun < 10
        assert len(output[StreamKind.STDOUT].replace("\n", "")) == 20_000_000
        assert sum(len(entry["log"].rstrip("\n")) for entry in log_entries(request)) == 20_000_000
        assert await read_all(stalled) == output

    lab.run(test)


def test_without_a_log_a_stalled_client_among_several_is_told_that_it_missed_output(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' 'x'"]), log="none")
        container = await lab.start(request, [AttachWish(), AttachWish()])
        assert len((await read_all(container.attached[1]))[StreamKind.STDOUT]) == 4_000_000
        with pytest.raises(ConnectionAbortedError):
            await read_all(container.attached[0])

    lab.run(test)


def test_a_terminal_s_client_that_stalls_misses_output_but_stays_attached(lab: Lab) -> None:
    async def test() -> None:
        script = "head -c 6000000 /dev/zero | tr '\\0' 'x'; echo; read x; echo got $x"
        container = await lab.start(
            lab.request(make_document(["sh", "-c", script], terminal=True), stdin=True), [AttachWish(stdin=True)]
        )
        await asyncio.sleep(STALL_LIMIT_S + 1)  # Ctrl-S, as it were
        await container.attached[0].write(b"go\n")
        output = await read_until(container.attached[0], b"got go")
        assert output.count(b"x") < 6_000_000

    lab.run(test)


def test_a_slow_but_steady_client_gets_everything(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' 'x'"]), log="none")
        container = await lab.start(request, [AttachWish()])
        total = 0
        while (piece := await container.attached[0].read()) is not None:
            total += len(piece[1])
            await asyncio.sleep(0.005)
        assert total == 8_000_000

    lab.run(test)


def test_without_log_and_others_the_process_waits_for_its_only_reader(lab: Lab) -> None:
    async def test() -> None:
        request = lab.request(make_document(["sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' 'x'"]), log="none")
        container = await lab.start(request, [AttachWish()])
        await asyncio.sleep(STALL_LIMIT_S + 0.5)  # longer than a client with company would be waited for
        assert not container.exited.done()
        assert len((await read_all(container.attached[0]))[StreamKind.STDOUT]) == 4_000_000

    lab.run(test)


def test_the_exit_is_not_held_up_by_a_leaked_pipe(lab: Lab) -> None:
    async def test() -> None:
        container = await lab.start(lab.request(make_document(["sh", "-c", "echo hello; sleep 100"])), [AttachWish()])
        await read_until(container.attached[0], b"hello")
        leaked = os.open(f"/proc/{container.pid}/fd/1", os.O_WRONLY)
        try:
            await container.signal(9)
            begun = time.monotonic()
            assert (await container.exited).code == 137
            assert time.monotonic() - begun < 3
        finally:
            os.close(leaked)

    lab.run(test)


def test_pause_stops_output_and_kill_works_on_a_paused_container(lab: Lab) -> None:
    async def test() -> None:
        script = "i=0; while :; do i=$((i+1)); echo $i; usleep 1000; done"
        request = lab.request(make_document(["sh", "-c", script]))
        container = await lab.start(request)
        assert request.log.path is not None
        path = request.log.path
        await eventually(lambda: path.stat().st_size > 0)
        await container.pause()
        await asyncio.sleep(0.05)  # what was in the pipe is read now; the next two looks must agree
        size = path.stat().st_size
        await asyncio.sleep(0.05)
        assert path.stat().st_size == size
        await container.unpause()
        await eventually(lambda: path.stat().st_size > size)
        await container.pause()
        await container.signal(9)
        assert (await container.exited).code == 137

    lab.run(test)

"""Reading logs: tail, spans of time, damage, and following through rotations."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitepy.engine.runtime.logfile import JsonFileLog
from kitepy.engine.services.log_files import open_log, tail_offset
from kitepy.engine.services.log_reader import read_log, time_ns
from kitepy.engine.services.ports import LogOptions

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def options(**changes: Any) -> LogOptions:
    return LogOptions(**{"stdout": True, "stderr": True, **changes})


def entry(text: str, stream: str = "stdout", at_ns: int = START) -> bytes:
    stamp = datetime.fromtimestamp(at_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f'{{"log":"{text}\\n","stream":"{stream}","time":"{stamp}.{at_ns % SECOND:09d}Z"}}\n'.encode()


def lines(*numbers: int) -> bytes:
    return b"".join(entry(str(number), at_ns=START + number * SECOND) for number in numbers)


def read(path: Path, **changes: Any) -> list[str]:
    async def main() -> list[str]:
        frames = [frame async for batch in read_log(path, options(**changes)) for frame in batch]
        return [text.decode() for _, text in frames]

    return asyncio.run(asyncio.wait_for(main(), 10))


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "c-json.log"


# --- what is there ---------------------------------------------------------------------------------------------------


def test_a_log_that_was_never_written_is_empty(path: Path) -> None:
    assert read(path) == []
    assert read(path, tail=5) == []


def test_streams_are_told_apart_and_can_be_left_out(path: Path) -> None:
    path.write_bytes(entry("a") + entry("b", "stderr"))

    async def main() -> list[tuple[int, bytes]]:
        return [frame async for batch in read_log(path, options()) for frame in batch]

    assert asyncio.run(main()) == [(1, b"a\n"), (2, b"b\n")]
    assert read(path, stdout=False) == ["b\n"]
    assert read(path, stderr=False) == ["a\n"]


def test_rotated_files_are_read_oldest_first(path: Path) -> None:
    path.with_name(path.name + ".2").write_bytes(lines(1, 2))
    path.with_name(path.name + ".1").write_bytes(lines(3, 4))
    path.write_bytes(lines(5))
    assert read(path) == ["1\n", "2\n", "3\n", "4\n", "5\n"]


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 4, 5, 9])
def test_the_tail_reaches_into_rotated_files(path: Path, tail: int) -> None:
    path.with_name(path.name + ".2").write_bytes(lines(1, 2))
    path.with_name(path.name + ".1").write_bytes(lines(3, 4))
    path.write_bytes(lines(5))
    assert read(path, tail=tail) == [f"{number}\n" for number in range(1, 6)][5 - min(tail, 5) :]


def compress(path: Path) -> None:
    """As a monitor does it, sooner or later."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    times = path.stat()
    os.utime(packed, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.unlink()


@pytest.mark.parametrize("tail", [None, 0, 1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("packed", [(2,), (1,), (1, 2)])
def test_rotated_files_may_be_compressed(path: Path, tail: int | None, packed: tuple[int, ...]) -> None:
    path.with_name(path.name + ".2").write_bytes(lines(1, 2))
    path.with_name(path.name + ".1").write_bytes(lines(3, 4))
    path.write_bytes(lines(5))
    for number in packed:
        compress(path.with_name(f"{path.name}.{number}"))
    assert read(path, tail=tail) == [f"{number}\n" for number in range(1, 6)][5 - min(5 if tail is None else tail, 5) :]


def test_a_file_beside_its_compressed_self_is_read_once(path: Path) -> None:
    """A monitor replaces the one by the other in two steps."""
    rotated = path.with_name(path.name + ".1")
    rotated.write_bytes(lines(1))
    path.write_bytes(lines(2))
    original = rotated.read_bytes()
    times = rotated.stat()
    compress(rotated)
    rotated.write_bytes(original)
    os.utime(rotated, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read(path) == ["1\n", "2\n"]


def test_a_damaged_compressed_file_hides_no_other(path: Path) -> None:
    path.with_name(path.name + ".2.gz").write_bytes(b"not gzip at all")
    path.with_name(path.name + ".1.gz").write_bytes(gzip.compress(lines(1))[:-9])
    path.write_bytes(lines(2))
    assert read(path)[-1] == "2\n"


def test_reading_can_stop_where_the_log_once_ended(path: Path) -> None:
    path.write_bytes(lines(1, 2))
    end = (path.stat().st_ino, path.stat().st_size)
    append(path, lines(3))

    async def main() -> list[str]:
        frames = [frame async for batch in read_log(path, options(), log_end=end) for frame in batch]
        return [text.decode() for _, text in frames]

    assert asyncio.run(main()) == ["1\n", "2\n"]
    rotate(path)
    append(path, lines(4))
    assert asyncio.run(main()) == ["1\n", "2\n"]


@settings(max_examples=60)
@given(
    st.lists(st.text(alphabet="ab", max_size=60_000), max_size=6),
    st.booleans(),
    st.integers(1, 8),
)
def test_the_offset_of_the_last_lines(tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: bool, count: int) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    content = "".join(f"{text}\n" for text in texts)
    content = content[:-1] if cut else content
    path.write_text(content)
    wanted = content.splitlines(keepends=True)
    with path.open("rb", buffering=0) as stream:
        offset, found = tail_offset(stream, count)
    assert content[offset:] == "".join(wanted[-count:])
    assert found == min(count, len(wanted))


def test_a_span_of_time(path: Path) -> None:
    path.write_bytes(lines(*range(10)))
    assert read(path, since_ns=START + 7 * SECOND) == ["7\n", "8\n", "9\n"]
    assert read(path, until_ns=START + 2 * SECOND) == ["0\n", "1\n", "2\n"]
    assert read(path, since_ns=START + 3 * SECOND + 1, until_ns=START + 5 * SECOND) == ["4\n", "5\n"]
    assert read(path, since_ns=START + 100 * SECOND) == []


def test_tail_counts_before_the_span_is_cut_out(path: Path) -> None:
    path.write_bytes(lines(*range(10)))
    assert read(path, tail=3, since_ns=START + 8 * SECOND) == ["8\n", "9\n"]


def test_time_stamps_have_all_their_digits(path: Path) -> None:
    path.write_bytes(b'{"log":"a\\n","stream":"stdout","time":"2024-01-02T03:04:05.12Z"}\n')
    assert read(path, timestamps=True) == ["2024-01-02T03:04:05.120000000Z a\n"]
    path.write_bytes(b'{"log":"a\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n')
    assert read(path, timestamps=True) == ["2024-01-02T03:04:05.000000000Z a\n"]


def test_details_stand_before_the_text(path: Path) -> None:
    attributes = '"attrs":{"x":"1 2,=","a b":"\u00e4"}'
    path.write_text(f'{{"log":"a\\n","stream":"stdout",{attributes},"time":"2024-01-02T03:04:05Z"}}\n' + entry("b").decode())
    assert read(path, details=True) == ["a+b=%C3%A4,x=1+2%2C%3D a\n", " b\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01.000000001Z", SECOND + 1),
        ("", 0),
        ("yesterday", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert time_ns(text) == expected


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_last_line_that_was_cut_is_shown_as_it_is(path: Path) -> None:
    path.write_bytes(lines(1) + b'{"log":"half a li')
    assert read(path) == ["1\n", '{"log":"half a li\n']


def test_a_last_line_without_its_newline_is_read(path: Path) -> None:
    path.write_bytes(lines(1, 2)[:-1])
    assert read(path) == ["1\n", "2\n"]


def test_damage_in_the_middle_hides_nothing_else(path: Path) -> None:
    path.write_bytes(lines(1) + b'nonsense\n\0\0\0\0\n{"log":5}\n\xff\xfe\n' + lines(2))
    found = read(path)
    assert found[0] == "1\n"
    assert found[-1] == "2\n"
    assert "nonsense\n" in found


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_content_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(content + b"\n" + lines(1))
    assert read(path)[-1] == "1\n"


# --- following -------------------------------------------------------------------------------------------------------


class Follower:
    """A follower whose lines can be awaited one by one."""

    def __init__(self, path: Path, ended: asyncio.Future[None], **changes: Any) -> None:
        self._batches = read_log(path, options(follow=True, **changes), ended=ended)
        self._frames: list[str] = []
        self.lines: list[str] = []

    async def next(self) -> str:
        while not self._frames:
            self._frames = [text.decode().rstrip("\n") for _, text in await asyncio.wait_for(anext(self._batches), 5)]
        line = self._frames.pop(0)
        self.lines.append(line)
        return line

    async def rest(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(await self.next())
        except StopAsyncIteration:
            return found

    async def close(self) -> None:
        await self._batches.aclose()  # type: ignore[attr-defined]  # it is a generator


def follow(path: Path, story: Callable[[Follower, asyncio.Future[None]], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        follower = Follower(path, ended, **changes)
        try:
            await asyncio.wait_for(story(follower, ended), 20)
        finally:
            await follower.close()

    asyncio.run(main())


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def rotate(path: Path, files: int = 5) -> None:
    """As a monitor does it."""
    for number in range(files - 1, 0, -1):
        source = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        if source.exists():
            source.rename(path.with_name(f"{path.name}.{number}"))
    path.touch()


def test_a_follower_gets_what_is_there_and_what_comes(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        append(path, lines(2))
        assert await follower.next() == "2"
        append(path, lines(3))
        ended.set_result(None)
        assert await follower.rest() == ["3"]

    path.write_bytes(lines(1))
    follow(path, story)


def test_a_follower_may_come_before_the_first_line(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        first = asyncio.ensure_future(follower.next())
        await asyncio.sleep(0.05)
        path.write_bytes(lines(1))
        assert await first == "1"
        ended.set_result(None)
        assert await follower.rest() == []

    follow(path, story)


def test_a_follower_waits_for_the_end_of_a_line(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        whole = lines(2)
        append(path, whole[:10])
        second = asyncio.ensure_future(follower.next())
        await asyncio.sleep(0.05)
        assert not second.done()
        append(path, whole[10:])
        assert await second == "2"
        append(path, whole[:10])
        ended.set_result(None)
        assert await follower.rest() == [whole[:10].decode()]

    path.write_bytes(lines(1))
    follow(path, story)


def test_a_follower_ends_at_once_when_the_container_has_ended(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        ended.set_result(None)
        assert await follower.rest() == ["1"]

    path.write_bytes(lines(1))
    follow(path, story)


def test_a_rotation_between_reads_loses_nothing(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        append(path, lines(2))
        rotate(path)
        append(path, lines(3))
        assert [await follower.next(), await follower.next()] == ["2", "3"]
        ended.set_result(None)
        assert await follower.rest() == []

    path.write_bytes(lines(1))
    follow(path, story)


@pytest.mark.parametrize("rotations", [2, 3, 4])
def test_several_rotations_between_reads_lose_nothing(path: Path, rotations: int) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        number = 2
        for _ in range(rotations):
            append(path, lines(number, number + 1))
            rotate(path)
            number += 2
        append(path, lines(number))
        ended.set_result(None)
        assert await follower.rest() == [str(line) for line in range(2, number + 1)]

    path.write_bytes(lines(1))
    follow(path, story)


def test_two_rotations_of_a_log_of_two_files_lose_nothing(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        append(path, lines(2))
        rotate(path, files=2)
        append(path, lines(3))
        rotate(path, files=2)
        append(path, lines(4))
        ended.set_result(None)
        assert await follower.rest() == ["2", "3", "4"]

    path.write_bytes(lines(1))
    follow(path, story)


def test_rotations_in_the_midst_of_the_first_read_double_nothing(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        rotate(path)
        append(path, lines(4))
        rotate(path)
        append(path, lines(5))
        ended.set_result(None)
        assert await follower.rest() == ["2", "3", "4", "5"]

    path.with_name(path.name + ".1").write_bytes(lines(1))
    path.write_bytes(lines(2, 3))
    follow(path, story)


def test_a_log_of_one_file_starts_over_at_its_bound(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "1"
        path.write_bytes(b"")
        append(path, entry("new"))
        assert await follower.next() == "new"
        ended.set_result(None)

    path.write_bytes(lines(1))
    follow(path, story)


def test_a_log_of_one_file_is_followed_from_its_new_beginning_however_long_it_is_by_then(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert [await follower.next(), await follower.next()] == ["1", "2"]
        path.write_bytes(lines(*range(3, 9)))
        ended.set_result(None)
        assert await follower.rest() == [str(number) for number in range(3, 9)]

    path.write_bytes(lines(1, 2))
    follow(path, story)


def test_a_follower_of_a_real_log_gets_every_line_in_order(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        log = JsonFileLog(str(path), max_size_bytes=2000, max_files=50)
        for number in range(600):
            log.write("stdout", b"%d\n" % number)
            if number % 37 == 0:
                await follower.next()
        log.close()
        ended.set_result(None)
        await follower.rest()
        assert follower.lines == [str(number) for number in range(600)]

    follow(path, story)


@pytest.mark.parametrize("files", [3, 50])
def test_a_follower_of_a_log_that_is_compressed_gets_every_line_in_order(path: Path, files: int) -> None:
    """Files are compressed, and gone, while the follower still has them open."""

    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        log = JsonFileLog(str(path), max_size_bytes=2000, max_files=files, compress=True)
        for number in range(600):
            log.write("stdout", b"%d\n" % number)
            if number % 3 == 0:
                log.work_on()
            if number % 19 == 0 or files == 3:
                await follower.next()
        while log.busy:
            log.work_on()
        log.close()
        ended.set_result(None)
        await follower.rest()
        assert follower.lines == [str(number) for number in range(600)]
        assert not path.with_name(path.name + ".1").exists()
        assert path.with_name(path.name + ".2.gz").exists()

    follow(path, story)


def test_a_follower_with_an_end_in_time_stops_there(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.rest() == ["1"]
        assert not ended.done()

    path.write_bytes(lines(1))
    follow(path, story, until_ns=START + 5 * SECOND)


def test_a_follower_with_a_tail_starts_with_it(path: Path) -> None:
    async def story(follower: Follower, ended: asyncio.Future[None]) -> None:
        assert await follower.next() == "3"
        append(path, lines(4))
        ended.set_result(None)
        assert await follower.rest() == ["4"]

    path.write_bytes(lines(1, 2, 3))
    follow(path, story, tail=1)


def test_a_follower_that_leaves_holds_nothing(path: Path) -> None:
    path.write_bytes(lines(1))

    async def main() -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        before = len(list(Path("/proc/self/fd").iterdir()))
        follower = Follower(path, ended)
        await follower.next()
        await follower.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert not ended._callbacks  # type: ignore[attr-defined]  # there is no other way to see them

    asyncio.run(main())


def test_a_name_that_is_missing_in_the_midst_of_a_rotation_hides_no_older_file(path: Path) -> None:
    # The oldest were renamed already, the younger ones not yet: nothing is called .2 in this moment.
    path.write_bytes(lines(4))
    path.with_name(f"{path.name}.1").write_bytes(lines(3))
    path.with_name(f"{path.name}.3").write_bytes(lines(2))
    path.with_name(f"{path.name}.4").write_bytes(lines(1))
    assert read(path) == ["1\n", "2\n", "3\n", "4\n"]


def test_a_file_met_twice_while_it_moves_is_opened_once(path: Path) -> None:
    path.write_bytes(lines(1))
    path.with_name(path.name + ".1").hardlink_to(path)
    opened = open_log(path)
    assert len(opened) == 1
    opened[0].close()

"""What may be asked of ps, and what is taken from its answer."""

from __future__ import annotations

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.container_processes import parse_output, split_arguments

OUTPUT = """UID          PID    PPID  C STIME TTY          TIME CMD
root          10       1  0 13:00 ?        00:00:00 sh -c a   b
root          11      10  0 13:00 ?        00:00:00 sleep 5
root          12       1  0 13:00 ?        00:00:00 other

"""


def test_rows_of_others_are_left_out_and_the_last_column_takes_the_rest() -> None:
    titles, rows = parse_output(OUTPUT, {10, 11})
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [row[-1] for row in rows] == ["sh -c a b", "sleep 5"]
    assert all(len(row) == len(titles) for row in rows)


def test_threads_below_a_process_belong_to_it() -> None:
    text = "PID TTY STAT TIME COMMAND\n10 ? - 0:00 sh\n- - S 0:00 -\n12 ? - 0:00 other\n- - S 0:00 -\n"
    assert parse_output(text, {10})[1] == [["10", "?", "-", "0:00", "sh"], ["-", "-", "S", "0:00", "-"]]


@pytest.mark.parametrize("text", ["", "COMMAND\nsh\n", "CMD PID\nsh -c 5\n"])
def test_an_answer_without_a_column_of_pids_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"PID|pid"):
        parse_output(text, {10})


@pytest.mark.parametrize(
    ("wish", "arguments"),
    [("", ["-ef"]), ("aux", ["aux"]), ("-eo pid=PID,args", ["-eo", "pid=PID,args"]), ("-opid=PID", ["-opid=PID"])],
)
def test_a_wish_becomes_arguments(wish: str, arguments: list[str]) -> None:
    assert split_arguments(wish) == arguments


@pytest.mark.parametrize(
    "wish",
    ["-o rss=PID", "-orss=PID", "o rss=PID", "-o pid,rss=PID,args", "-o rss=PIDS", "-o ppid= PID", "-o\tpid", "-\0", "x" * 5000],
)
def test_a_wish_that_would_deceive_is_refused(wish: str) -> None:
    with pytest.raises(InvalidParameter):
        split_arguments(wish)

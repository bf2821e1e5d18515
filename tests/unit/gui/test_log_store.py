"""Lines of a log: assembling, keeping, dropping, searching, colouring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.gui.models.ansi import TRUE_COLOUR, Style, overwrite, plain, spans
from kitepy.gui.models.log import BLOCK_LINES, Line, LineAssembler, LogStore, clock_time, moment


def filled(count: int, limit: int = 1_000_000) -> LogStore:
    store = LogStore(limit)
    store.append(Line(f"line {number}") for number in range(count))
    return store


def test_lines_keep_their_numbers_when_old_ones_are_dropped() -> None:
    store = filled(10 * BLOCK_LINES + 5, limit=3 * BLOCK_LINES)
    assert store.end_number == 10 * BLOCK_LINES + 5
    assert store.line(store.first_number).text == f"line {store.first_number}"
    assert store.line(store.end_number - 1).text == f"line {store.end_number - 1}"
    assert 3 * BLOCK_LINES <= len(store) <= 4 * BLOCK_LINES
    with pytest.raises(IndexError):
        store.line(store.first_number - 1)


def test_the_newest_lines_are_never_the_ones_dropped() -> None:
    store = LogStore(limit=10)
    for number in range(5 * BLOCK_LINES):
        store.append([Line(str(number))])
        assert store.line(store.end_number - 1).text == str(number)


def test_an_emptied_view_shows_only_what_comes_later() -> None:
    store = filled(2000)
    store.hide_all()
    assert len(store) == 0
    store.append([Line("new")])
    assert [line.text for line in store.lines(0, store.end_number)] == ["new"]


def test_streams_and_timestamps_survive_the_packing() -> None:
    store = LogStore()
    store.append(
        Line(f"ä{number}", "stderr" if number % 2 else "stdout", f"2026-01-01T00:00:00.{number}Z") for number in range(3000)
    )
    assert store.line(1001) == Line("ä1001", "stderr", "2026-01-01T00:00:00.1001Z")


def test_matches_are_found_in_every_block_in_order() -> None:
    store = filled(5000)
    matches = [match for match in store.find("line 4", 0) if match]
    assert matches[0] == (4, 0)
    assert len(matches) == sum(str(number).startswith("4") for number in range(5000))
    assert matches == sorted(matches)


def test_search_minds_capitals_only_when_asked_with_capitals() -> None:
    store = LogStore()
    store.append([Line("Error here"), Line("an error there")])
    assert len([match for match in store.find("error", 0) if match]) == 2
    assert len([match for match in store.find("Error", 0) if match]) == 1


def test_search_looks_through_colours() -> None:
    store = LogStore()
    store.append([Line("\x1b[31mer\x1b[0mror")] + [Line("x")] * (2 * BLOCK_LINES))
    assert next(match for match in store.find("error", 0) if match) == (0, 0)


def test_search_pauses_after_each_block() -> None:
    assert sum(match is None for match in filled(5 * BLOCK_LINES).find("nothing", 0)) == 5


def test_chunks_become_lines_however_they_are_cut() -> None:
    text = "eins\nzwei ü\n\ndrei".encode()
    for size in range(1, len(text)):
        assembler = LineAssembler(timestamps=False)
        lines = [line for start in range(0, len(text), size) for line in assembler.feed("stdout", text[start : start + size])]
        lines += assembler.flush()
        assert [line.text for line in lines] == ["eins", "zwei ü", "", "drei"]


def test_two_streams_do_not_mix_inside_of_a_line() -> None:
    assembler = LineAssembler(timestamps=True)
    assert assembler.feed("stdout", b"2026-01-02T03:04:05.678901234Z hel") == []
    (wrong,) = assembler.feed("stderr", b"2026-01-02T03:04:05.7Z oops\n")
    (right,) = assembler.feed("stdout", b"lo\n")
    assert wrong == Line("oops", "stderr", "2026-01-02T03:04:05.7Z")
    assert right == Line("hello", "stdout", "2026-01-02T03:04:05.678901234Z")


def test_moments_sort_as_text_although_the_engine_drops_zeros() -> None:
    assert moment("2026-01-02T03:04:05.1Z") < moment("2026-01-02T03:04:05.15Z")
    assert moment("2026-01-02T03:04:05Z") < moment("2026-01-02T03:04:05.000000001Z")


def test_clock_times_are_short_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert clock_time("2026-01-02T03:04:05.678901234Z") == "04:04:05.678"
        assert clock_time("nonsense") == ""
    finally:
        monkeypatch.undo()
        time.tzset()


def test_colours_become_spans() -> None:
    found = spans("a\x1b[1;31mb\x1b[0mc\x1b[38;5;200md\x1b[48;2;1;2;3me")
    assert "".join(span.text for span in found) == "abcde"
    assert found[1].style == Style(foreground=1, bold=True)
    assert found[2].style == Style()
    assert found[3].style.foreground == 200
    assert found[4].style.background == TRUE_COLOUR + 0x010203


def test_titles_links_and_control_characters_are_not_shown() -> None:
    assert plain("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x07\x1b[2Kc\x1b(Bd") == "abcd"


def test_a_progress_bar_shows_its_last_state() -> None:
    assert overwrite("10%\r50%\r100%\r") == "100%"


@given(st.text(alphabet=st.sampled_from("ab\x1b[]0;13m\r\x07\\ü"), max_size=40))
def test_spans_and_plain_text_always_agree(line: str) -> None:
    assert "".join(span.text for span in spans(line)) == plain(line)
    assert "\x1b" not in plain(line)

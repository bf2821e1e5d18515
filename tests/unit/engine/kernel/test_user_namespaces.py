"""Id maps: what is mapped, up to where, and what it is called outside."""

from __future__ import annotations

from kitepy.engine.kernel.user_namespaces import IdMap


def test_the_initial_namespace_is_recognised() -> None:
    assert IdMap.parse("         0          0 4294967295\n").is_initial
    assert not IdMap.parse("0 1000 1\n1 100000 65536\n").is_initial


def test_the_last_id_ends_at_the_first_gap() -> None:
    assert IdMap.parse("1 100000 65536\n0 1000 1\n").last == 65536
    assert IdMap.parse("0 1000 1\n5 100000 10\n").last == 0
    assert IdMap.parse("5 100000 10\n").last == -1


def test_an_id_is_translated_by_the_range_it_lies_in() -> None:
    ids = IdMap.parse("0 1000 1\n1 100000 1000\n1001 300000 64536\n")
    assert [ids.outside(number) for number in (0, 1, 1000, 1001, 65536)] == [1000, 100000, 100999, 300000, 364535]
    assert ids.outside(65537) is None

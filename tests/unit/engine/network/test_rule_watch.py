"""Whose change of the rules it was."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.network.rule_watch import removals


def message(kind: int, table: str, sender: int, subsystem: int = 10) -> bytes:
    name = table.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
    handle = struct.pack("=HHQ", 12, 2, 7)
    body = bytes(4) + handle + attribute
    return struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, 0, 1, sender) + body


def test_removals_name_their_table_and_their_sender() -> None:
    data = message(2, "kitepy", 77) + message(0, "kitepy", 78) + message(14, "nat", 79) + message(8, "kitepy", 80, subsystem=1)
    assert list(removals(data)) == [("kitepy", 77), ("nat", 79)]


@given(st.binary(max_size=80))
def test_whatever_comes_is_read_to_its_end(data: bytes) -> None:
    assert all(isinstance(sender, int) for _, sender in removals(data))

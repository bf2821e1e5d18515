"""The packets between the processes."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.kernel.packets import MAX_PACKET, decode_json, encode_json, pack, receive, send, unpack
from kitepy.engine.runtime.children import new_socketpair

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_json_survives_the_round_trip(value: object) -> None:
    assert decode_json(encode_json(value)) == value
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "[1] 2", '{"a":1,}', "nope"])
def test_malformed_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Illegal"):
        decode_json(text)


def test_a_packet_carries_raw_bytes_beside_the_message() -> None:
    assert unpack(pack({"op": "x", "n": [1, 2]}, b"\x00raw")) == ({"op": "x", "n": [1, 2]}, b"\x00raw")


def test_a_message_too_big_for_a_packet_is_refused() -> None:
    with pytest.raises(ValueError, match="more than a packet holds"):
        pack({}, bytes(MAX_PACKET))


def test_descriptors_travel_and_arrive_close_on_exec() -> None:
    ours, theirs = new_socketpair()
    read_end, write_end = os.pipe()
    send(ours, {"op": "x"}, bytes(MAX_PACKET - 100), (write_end,))
    received = receive(theirs)
    assert received is not None
    message, payload, fds = received
    assert (message, len(payload)) == ({"op": "x"}, MAX_PACKET - 100)
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"through")
    assert os.read(read_end, 10) == b"through"
    for fd in (read_end, write_end, *fds):
        os.close(fd)
    ours.close()
    assert receive(theirs) is None
    theirs.close()

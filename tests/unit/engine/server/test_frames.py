"""Frames of the multiplexed stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.server.frames import FrameDecoder, encode_frame


def test_a_frame_is_eight_bytes_of_header_and_the_data() -> None:
    assert encode_frame(2, b"oh") == b"\x02\0\0\0\0\0\0\x02oh"


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame header"):
        FrameDecoder().feed(b"plain text")


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=50)), max_size=8), st.data())
def test_frames_survive_any_cut(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(*frame) for frame in frames)
    decoder = FrameDecoder()
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert found == frames
    assert decoder.pending_bytes == 0

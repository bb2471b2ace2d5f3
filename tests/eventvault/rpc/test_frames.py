"""Frames come whole, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from eventvault.rpc.frames import FrameBuffer, framed


@given(some.lists(some.binary(max_size=50)), some.lists(some.integers(1, 20), min_size=1))
def test_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    frames, found, position = FrameBuffer(), [], 0
    while position < len(stream):
        cut = cuts[len(found) % len(cuts)]
        found += frames.feed(stream[position : position + cut])
        position += cut
    assert found == messages


def test_a_frame_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConnectionError):
        FrameBuffer(100).feed((101).to_bytes(4, "little"))

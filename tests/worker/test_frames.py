"""Frames come whole, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from worker.frames import LONGEST_FRAME, BrokenFrame, Frames, frame


@given(some.lists(some.binary(max_size=50)), some.lists(some.integers(1, 20), min_size=1))
def test_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    frames, found, position = Frames(), [], 0
    while position < len(stream):
        cut = cuts[len(found) % len(cuts)]
        found += frames.feed(stream[position : position + cut])
        position += cut
    assert found == messages


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(BrokenFrame):
        Frames().feed((LONGEST_FRAME + 1).to_bytes(4, "little"))

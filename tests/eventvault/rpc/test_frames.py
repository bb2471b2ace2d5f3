"""Frames come whole, however the stream is cut."""

from __future__ import annotations

import socket
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as some

from eventvault.rpc import frames
from eventvault.rpc.frames import FrameBuffer, framed


@pytest.mark.slow
@given(some.lists(some.binary(max_size=50)), some.lists(some.integers(1, 20), min_size=1))
def test_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    buffer, found, position = FrameBuffer(), [], 0
    while position < len(stream):
        cut = cuts[len(found) % len(cuts)]
        found += buffer.feed(stream[position : position + cut])
        position += cut
    assert found == messages


def test_a_frame_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConnectionError):
        FrameBuffer(100).feed((101).to_bytes(4, "little"))


@pytest.mark.parametrize("size", [0, 1, 100, 2**18 - 1, 2**18, 2**20])
def test_a_frame_of_any_size_is_received_as_it_was_sent(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    here, there = socket.socketpair()
    with here, there:
        for end in (here, there):
            frames.set_deadline(end, 30)
        sending = threading.Thread(target=frames.send, args=(here, body))
        sending.start()
        assert frames.receive(there) == body
        sending.join(30)


def test_a_large_frame_is_sent_without_a_copy_of_it() -> None:
    body = bytes(16 * 2**20)
    here, there = socket.socketpair()
    with here, there:
        for end in (here, there):
            frames.set_deadline(end, 30)
        taken = bytearray(4 + len(body))
        taking = threading.Thread(target=there.recv_into, args=(taken, 0, socket.MSG_WAITALL))
        taking.start()
        tracemalloc.start()
        try:
            frames.send(here, body)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        taking.join(30)
    assert taken == framed(body)
    assert most < 2**20

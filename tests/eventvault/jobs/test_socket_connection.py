"""A connection between dispatcher and worker drops a frame only while too much waits."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from eventvault.jobs import socket_connection
from eventvault.jobs.socket_connection import MessageConnection

LIMIT = 16 * 2**20
FRAME = bytes(2**20)
"""Larger than what the socket holds, so that a flush never sends a whole one."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MessageConnection, socket.socket]]:
    monkeypatch.setattr(socket_connection, "_MAX_UNSENT_BYTES", LIMIT)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
    theirs.settimeout(10)
    with ours, theirs:
        yield MessageConnection(ours, "session"), theirs


def send_first_frame(connection: MessageConnection, other_end: socket.socket) -> None:
    """Let the other end read until the first waiting frame is sent, while others wait behind it."""
    waiting = len(connection.unsent)
    while len(connection.unsent) == waiting:
        connection.flush()
        other_end.recv(2**20)


def test_a_frame_that_was_sent_makes_room_for_another_one(ends: tuple[MessageConnection, socket.socket]) -> None:
    connection, other_end = ends
    for _ in range(2):
        connection.queue(FRAME)
    for _ in range(2 * LIMIT // len(FRAME)):  # in all more than the limit, but never more than two at a time
        send_first_frame(connection, other_end)
        assert len(connection.unsent) == 1
        connection.queue(FRAME)
        assert len(connection.unsent) == 2


def test_a_frame_is_dropped_while_too_much_waits(ends: tuple[MessageConnection, socket.socket]) -> None:
    connection, other_end = ends
    frames = LIMIT // len(FRAME)
    for _ in range(frames + 1):
        connection.queue(FRAME)
    assert len(connection.unsent) == frames

    send_first_frame(connection, other_end)
    connection.queue(FRAME)
    connection.queue(FRAME)
    assert len(connection.unsent) == frames

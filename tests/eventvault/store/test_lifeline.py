"""A store that does not answer a ping hangs, but not while this process was stopped itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from eventvault.store.process import spawn


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, others = socket.socketpair()
    with own, others:
        yield own, others


@pytest.mark.parametrize("event", [lambda store: store.send(b"x"), lambda store: store.close()])
def test_an_answer_or_an_end_is_noticed(
    ends: tuple[socket.socket, socket.socket], event: Callable[[socket.socket], object]
) -> None:
    own, store = ends
    event(store)
    spawn.await_answer(own, 5)


def test_a_store_that_is_silent_hangs(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        spawn.await_answer(ends[0], 0.01)


@pytest.mark.parametrize("slices", [1, 5, 9])
def test_a_slice_that_lasts_for_hours_is_only_one(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    """All slices but the last end without an answer, however long they last."""
    answers = iter([[]] * slices + [[(3, 1)]])

    class Poll:
        def register(self, *_: object) -> None: ...

        def poll(self, _: float) -> list[tuple[int, int]]:
            return next(answers)

    monkeypatch.setattr(spawn.select, "poll", Poll)
    spawn.await_answer(ends[0], 0.01)
    assert next(answers, None) is None

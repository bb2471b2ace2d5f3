"""A nursery that makes no progress is replaced; one whose supervisor was stopped is not."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from worker.pool import _LONGEST_TURN, ANSWER_SECONDS, PING_SECONDS, Pool
from worker.protocol import PING, Declared, ExecutorReport


class Listener:
    def declared(self, declared: Declared) -> None: ...

    def reported(self, slot: object, report: ExecutorReport) -> None: ...

    def ended(self, slot: object, status: int | None) -> None: ...


class Program:
    """A nursery that does nothing."""

    was_killed = False

    def kill(self) -> None:
        self.was_killed = True

    def wait(self, _: float) -> int:
        return -9


@pytest.fixture
def nursery() -> Iterator[tuple[Pool, Program, socket.socket]]:
    """A pool that wants no executor, its nursery, and the nursery's end of their socket."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.setblocking(False)
    theirs.setblocking(False)
    selector = selectors.DefaultSelector()
    pool = Pool(
        selector, Listener(), size=0, jobs_per_process=1, memory=2**28, modules=[], variables={}, log_level="info"
    )  # fmt: skip
    program = Program()
    pool._is_ready, pool._program, pool._control = True, program, control  # type: ignore[assignment]
    selector.register(control, selectors.EVENT_READ, pool._read_nursery)
    yield pool, program, theirs
    pool.close()
    selector.close()
    theirs.close()


def test_a_nursery_that_answers_stays(nursery: tuple[Pool, Program, socket.socket]) -> None:
    pool, program, theirs = nursery
    now = 0.0
    for _ in range(round(4 * ANSWER_SECONDS / PING_SECONDS)):
        pool.tend(now)
        assert theirs.recv(100) == PING
        theirs.send(b'{"type":"alive"}')
        pool._read_nursery()
        now += PING_SECONDS
    assert not program.was_killed


def test_a_silent_nursery_is_killed_after_as_long_as_the_supervisor_ran(
    nursery: tuple[Pool, Program, socket.socket],
) -> None:
    pool, program, _ = nursery
    pool.tend(0.0)
    pool.tend(1_000.0)
    assert not program.was_killed, "this process may have been stopped, and the nursery with it"
    for second in range(round(ANSWER_SECONDS / _LONGEST_TURN)):
        pool.tend(1_000.0 + second * _LONGEST_TURN)
    assert program.was_killed

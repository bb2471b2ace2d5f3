"""A nursery that makes no progress is replaced; one that cannot import the modules has said why before its end."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import wait_until
from worker.pool import _LONGEST_TURN, ANSWER_SECONDS, PING_SECONDS, Pool
from worker.protocol import PING, Declared, ExecutorReport

PATIENCE_SECONDS = 90.0
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


class Listener:
    def __init__(self) -> None:
        self.heard: list[Declared] = []

    def declared(self, declared: Declared) -> None:
        self.heard.append(declared)

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


def pool_of(selector: selectors.BaseSelector, listener: Listener, *modules: str) -> Pool:
    """A pool that wants one executor, whose handlers are in these modules."""
    return Pool(
        selector, listener, size=1, jobs_per_process=1, memory=2**28, modules=modules,
        variables={"PATH": os.environ["PATH"]}, log_level="info",
    )  # fmt: skip


@pytest.mark.process
def test_a_pool_that_ends_before_its_nursery_has_said_anything_leaves_nothing_open() -> None:
    with selectors.DefaultSelector() as selector:
        pool = pool_of(selector, Listener())
        pool.tend(1.0)
        assert len(selector.get_map()) == 2
        pool.close()
        assert len(selector.get_map()) == 0


@pytest.mark.process
@pytest.mark.parametrize("first", ["the modules", "its end"])
def test_why_a_module_cannot_be_imported_is_said_in_either_order(first: str) -> None:
    listener = Listener()
    with selectors.DefaultSelector() as selector:
        pool = pool_of(selector, listener, "no_such_module")
        pool.tend(1.0)
        assert pool._program is not None
        process = pool._program.pid
        wait_until(lambda: os.waitid(os.P_PID, process, ENDED) is not None, "it does not end", PATIENCE_SECONDS)
        events = [key for key, _ in selector.select(0)]
        assert len(events) == 2
        events.sort(key=lambda key: (key.fileobj is pool._control) is (first == "the modules"))
        for event in events:
            event.data()
        pool.close()
    assert [declared.error for declared in listener.heard] == [
        "the module no_such_module with job handlers cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    ]


_FORKS = """
import os, signal
if not os.fork():
    signal.alarm(120)
    with open({path!r}, "w") as file:
        file.write(str(os.getpid()))
    signal.pause()
{then}
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("", None),
        (
            "raise ValueError('broken')",
            "the module forking_jobs with job handlers cannot be imported: ValueError: broken",
        ),
        ("os._exit(3)", "the process that imports the modules ended with status 3"),
    ],
)
def test_a_process_that_a_module_forks_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, error: str | None
) -> None:
    forked = tmp_path / "forked"
    (tmp_path / "forking_jobs.py").write_text(_FORKS.format(path=str(forked), then=then))
    monkeypatch.syspath_prepend(str(tmp_path))
    listener = Listener()
    with selectors.DefaultSelector() as selector:
        pool = pool_of(selector, listener, "forking_jobs")

        def is_said() -> bool:
            pool.tend(time.monotonic())
            for key, _ in selector.select(0.1):
                key.data()
            return bool(listener.heard) and forked.exists() and forked.read_text() != ""

        try:
            wait_until(is_said, "nothing is said", PATIENCE_SECONDS)
            assert listener.heard[0].error == error
        finally:
            pool.close()
            with suppress(ProcessLookupError):
                os.kill(int(forked.read_text()), signal.SIGKILL)

"""Sessions of both transports get their own work, and a wait for one of them ends when the other has something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from eventvault.jobs import joined_transport
from eventvault.jobs.joined_transport import JoinedTransport
from eventvault.jobs.messages import Beat, Bye, Report, Work
from eventvault.jobs.transport import Loss, OutboxMessage, Position, Received, Submitted
from eventvault.problems import Problem
from tests.eventvault.jobs.transport_ends import hello, run

POSITION = Position("jobs.reports", 0, 7)


class Scripted:
    """One transport: what it returns next, and what was asked of it."""

    def __init__(self, on_arrival: Callable[[], None] | None = None) -> None:
        self.tick_seconds = 2.5
        self.coming: list[Received] = []
        self.jobs: list[Submitted] = []
        self.sent: list[Work] = []
        self.waits: list[float] = []
        self.accepted: list[bool] = []
        self.due = float("inf")
        self._woken = threading.Event()
        self._on_arrival = on_arrival

    def put(self, report: Report, position: Position | None = None) -> None:
        self.coming.append(Received(report, position))
        (self._on_arrival or self._woken.set)()

    def open(self, *_: object) -> None: ...

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        del submissions
        self.waits.append(seconds)
        if not self.coming and seconds:
            self._woken.wait(seconds)
        self._woken.clear()
        coming, self.coming = self.coming[:most], self.coming[most:]
        jobs, self.jobs = self.jobs, []
        return coming, jobs

    def send(self, work: Sequence[Work]) -> None:
        self.sent += work

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        return list(messages)

    def is_rewound(self) -> bool:
        return True

    def go_on(self, *, lacks_changes: bool = False) -> None:
        self.accepted.append(lacks_changes)

    def losses(self) -> list[Loss]:
        return []

    def remember(self, losses: Sequence[Loss]) -> None: ...

    def is_connected(self) -> bool:
        return True

    def seconds_until_due(self) -> float:
        return self.due

    def wake(self) -> None:
        self._woken.set()

    def problems(self) -> list[Problem]:
        return [Problem("code", "message", "hint")]

    def close(self) -> None: ...


@pytest.fixture
def local() -> Scripted:
    return Scripted()


@pytest.fixture
def remotes() -> list[Scripted]:
    return []


@pytest.fixture
def joined(local: Scripted, remotes: list[Scripted]) -> JoinedTransport:
    def make(on_arrival: Callable[[], None]) -> Scripted:
        remotes.append(Scripted(on_arrival))
        return remotes[0]

    made = JoinedTransport(local, make)
    made.open([], {"old": 3})
    return made


def test_each_session_gets_its_work_over_its_own_transport(
    joined: JoinedTransport, local: Scripted, remotes: list[Scripted]
) -> None:
    local.put(hello("near", 0))
    joined.receive(0, 10)
    remotes[0].put(hello("far", 3), POSITION)
    joined.receive(0, 10)
    joined.send([run("near", "t1"), run("far", "t2"), run("old", "t3")])
    assert [each.to for each in local.sent] == ["near", "old"]
    assert [each.to for each in remotes[0].sent] == ["far", "old"]
    remotes[0].put(Bye(session="far"), POSITION)
    local.put(hello("far", 0))
    joined.receive(0, 10)
    joined.receive(0, 10)
    joined.send([run("far", "t4")])
    assert local.sent[-1].to == "far"


def test_of_many_sessions_those_that_were_heard_last_are_known(
    joined: JoinedTransport, local: Scripted, remotes: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_transport, "MOST_SESSIONS", 3)
    joined.open([], {})
    local.put(hello("near", 0))
    remotes[0].put(hello("far", 3), POSITION)
    joined.receive(0, 10)
    for number in range(10):
        remotes[0].put(hello(f"lost {number}", 0), POSITION)
        remotes[0].put(Beat(session="far"), POSITION)
        local.put(Beat(session="near"))
        joined.receive(0, 10)
    assert len(joined._is_remote) == 3
    joined.send([run("near", "t1"), run("far", "t2"), run("lost 1", "t3")])
    assert [each.to for each in local.sent] == ["near", "lost 1"]
    assert [each.to for each in remotes[0].sent] == ["far", "lost 1"]


def test_a_wait_ends_when_either_has_something(
    joined: JoinedTransport, local: Scripted, remotes: list[Scripted]
) -> None:
    for transport in (local, remotes[0]):
        timer = threading.Timer(0.02, transport.put, (hello("s", 0), POSITION))
        timer.start()
        received, _ = joined.receive(60, 10)
        assert [report for report, _ in received] == [hello("s", 0)]
        timer.join()


def test_what_came_by_one_is_not_lost_if_the_other_one_fails(
    joined: JoinedTransport, local: Scripted, remotes: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes[0].put(hello("far", 3), POSITION)
    remotes[0].jobs = [job := Submitted(None, b"{}", (), POSITION)]
    with monkeypatch.context() as patch:
        patch.setattr(local, "receive", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            joined.receive(0, 10)
    assert joined.receive(0, 10) == ([Received(hello("far", 3), POSITION)], [job])
    assert joined.receive(0, 10) == ([], [])


def test_it_waits_no_longer_than_until_the_remote_one_has_something_to_do(
    joined: JoinedTransport, local: Scripted, remotes: list[Scripted]
) -> None:
    remotes[0].due = 0.01
    assert joined.receive(60, 10) == ([], [])
    assert local.waits == [0.01]
    remotes[0].jobs = [Submitted(None, b"{}", (), POSITION)]
    assert joined.receive(60, 10)[1]
    assert local.waits[-1] == 0


def test_what_concerns_topics_is_asked_of_the_remote_one(joined: JoinedTransport, remotes: list[Scripted]) -> None:
    joined.go_on(lacks_changes=True)
    assert remotes[0].accepted == [True]
    message = OutboxMessage("result", b"k", b"{}")
    assert joined.publish([message]) == [message]
    assert joined.is_rewound()
    assert joined.is_connected()
    assert len(joined.problems()) == 2

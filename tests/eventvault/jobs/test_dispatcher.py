"""The dispatcher loses nothing that came, whatever fails behind it, and rests where a database fails in a row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventvault.errors import DiskFailed
from eventvault.jobs import commands, dispatch, keys, reports, submissions
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.queue import JobQueue, QueueLimits
from eventvault.jobs.transport import Submitted
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import World, request

RETRY_SECONDS = 0.001


@pytest.fixture(params=[False, True], ids=["socket", "kafka"])
def world(request: pytest.FixtureRequest) -> World:
    world = World(positions=request.param, limits=QueueLimits(publishes=True))
    world.dispatcher = Dispatcher(
        world.database, world.wire, world.limits, now=lambda: world.clocks.now, monotonic=lambda: world.clocks.moment,
        make_machine=world._make_machine, retry_seconds=RETRY_SECONDS,
    )  # fmt: skip
    world.dispatcher.open()
    return world


class Broken:
    """Stands for a function that fails while `is_broken`. calls: how often it failed."""

    def __init__(self, function: Callable[..., object], error: Exception) -> None:
        self.is_broken = True
        self.calls = 0
        self._function = function
        self._error = error

    def __call__(self, *arguments: object) -> object:
        if self.is_broken:
            self.calls += 1
            raise self._error
        return self._function(*arguments)


def reopenings(world: World, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return when the database was opened again, from now on."""
    found: list[float] = []
    reopen = world.database.reopen

    def note() -> int:
        found.append(world.clocks.moment)
        return reopen()

    monkeypatch.setattr(world.database, "reopen", note)
    return found


@pytest.mark.slow
def test_a_database_that_fails_again_and_again_is_opened_again_ever_more_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish()
    opened = reopenings(world, monkeypatch)
    broken = Broken(reports.process, OSError(5, "Input/output error"))
    monkeypatch.setattr(reports, "process", broken)
    for _ in range(200):
        world.turn()
        world.clocks.pass_seconds(RETRY_SECONDS)
    assert 5 < len(opened) < 40, "it rests, and tries again"
    assert opened[-1] - opened[-2] >= 9 * RETRY_SECONDS
    with pytest.raises(DiskFailed, match="reading the database of jobs"):
        world.dispatcher.status()
    call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("b")], "me"))
    world.turns(3)
    assert isinstance(call.error, DiskFailed), "a caller need not wait for the end of the rest"

    broken.is_broken = False
    for _ in range(20):
        world.turn()
        world.clocks.pass_seconds(RETRY_SECONDS)
    assert world.state("a") == "done", "what was reported meanwhile is not lost"
    assert world.dispatcher.status().problems == []
    check_database(world.database)


def break_dispatching(monkeypatch: pytest.MonkeyPatch) -> Broken:
    broken = Broken(dispatch.dispatch, LookupError("an index names a job that has no record"))
    monkeypatch.setattr(dispatch, "dispatch", broken)
    return broken


def test_what_came_is_accepted_although_nothing_can_be_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish()
    world.wire.produce(b'{"id": "b", "type": "report"}')
    broken = break_dispatching(monkeypatch)
    call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("c")], "me"))
    world.turns(4)
    assert {job.id: job.state for job in world.database.records().values()} == {
        "a": "done", "b": "pending", "c": "pending",
    }  # fmt: skip
    assert (call.answered.is_set(), call.error) == (True, None)
    (problem,) = world.dispatcher.status().problems
    assert problem.code == "jobs_not_sent"
    assert "LookupError" in problem.message
    assert problem.hint

    broken.is_broken = False
    world.clocks.pass_seconds(60)
    world.turns(3)
    assert world.dispatcher.status().problems == []
    assert "sent" in {job.state for job in world.database.records().values()}
    check_database(world.database)


@pytest.mark.slow
def test_while_nothing_can_be_sent_that_is_tried_ever_more_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = break_dispatching(monkeypatch)
    for number in range(300):
        world.dispatcher.post(lambda queue, number=number: commands.submit(queue, [request(f"{number}")], "me"))
        world.turn()
        world.clocks.pass_seconds(RETRY_SECONDS)
    world.turns(4)
    assert 5 < broken.calls < 60
    assert len(world.database.records()) == 300


def test_what_came_is_not_lost_if_a_message_cannot_be_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = world.worker("report")
    broken = Broken(world.wire.send, TypeError("no such partition"))
    monkeypatch.setattr(world.wire, "send", broken)
    assert world.submit(request("a"))
    assert world.state("a") == "sent"
    broken.is_broken = False
    for _ in range(8):
        worker.beat()
        world.wire.tick()
        world.turn()
    worker.take()
    assert [run.message.job for run in world.runs] == ["a"], "it is sent again"


def test_what_came_is_not_lost_if_the_outbox_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.wire.produce(b'{"id": "a", "type": "report"}')
    broken = Broken(lambda *_: [], ValueError("this is no message"))
    monkeypatch.setattr("eventvault.jobs.outbox.JobsOutbox.unsent", broken)
    world.turns(8)
    assert list(world.database.records()) == ["a"]


def test_a_report_at_which_the_machine_fails_stops_no_other_and_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker("report", concurrency=2)
    world.submit(request("a"), request("b"))
    worker.take()
    for token in list(worker.running):
        worker.finish(token)
    done = reports._done

    def fail(machine: object, session: object, active: object, report: object) -> None:
        if report.job == "a":  # type: ignore[attr-defined]
            raise RuntimeError
        done(machine, session, active, report)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(reports, "_done", fail)
        world.turns(6)
    assert (world.state("a"), world.state("b")) == ("sent", "done")
    for _ in range(8):
        worker.beat()
        world.wire.tick()
        world.turn()
    worker.take()
    world.turn()
    assert world.state("a") == "done"
    assert len(world.runs) == 2


def test_a_message_at_which_the_machine_fails_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(positions=True, limits=QueueLimits(publishes=True))
    submit_one = commands.submit_one

    def fail(machine: object, wanted: object, *arguments: object, **more: object) -> object:
        if wanted.id == "bad":  # type: ignore[attr-defined]
            raise RuntimeError("nobody foresaw this")
        return submit_one(machine, wanted, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(commands, "submit_one", fail)
    for name in ("a", "bad", "b"):
        world.wire.produce(b'{"id": "%s", "type": "report"}' % name.encode())
    world.turns(10)
    assert list(world.database.records()) == ["a", "b"]
    (dead,) = [message for message in world.wire.published if message.kind == "dead"]
    assert dead.value == b'{"id": "bad", "type": "report"}'
    assert dict(dead.headers)["x-eventvault-code"] == b"internal_error"
    assert len(world.database.keys_of(keys.QUARANTINE)) == 1
    assert world.dispatcher.positions()[0].offset == 3


def test_a_message_that_cannot_even_be_refused_is_named_as_lost_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(positions=True)
    process, refuse = submissions.process, submissions.refuse

    def fail(then: Callable[..., None]) -> Callable[..., None]:
        def checked(queue: JobQueue, submitted: Submitted, *more: object) -> None:
            if b"bad" in (submitted.value or b""):
                raise RuntimeError("nobody foresaw this")
            then(queue, submitted, *more)

        return checked

    monkeypatch.setattr(submissions, "process", fail(process))
    monkeypatch.setattr(submissions, "refuse", fail(refuse))
    for name in ("a", "bad", "b"):
        world.wire.produce(b'{"id": "%s", "type": "report"}' % name.encode())
    world.turns(12)
    assert list(world.database.records()) == ["a", "b"]
    (loss,) = world.wire.losses()
    assert (loss.place, "nobody foresaw this" in loss.message) == ("jobs/0/1", True)
    world.wire.lost.clear()
    world.start()
    assert world.wire.losses() == [loss], "the next dispatcher names it too"


def test_what_came_is_not_lost_if_the_losses_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(world.wire.losses, RuntimeError("dictionary changed size during iteration"))
    monkeypatch.setattr(world.wire, "losses", broken)
    world.wire.produce(b'{"id": "a", "type": "report"}')
    world.turns(3)
    broken.is_broken = False
    world.turns(8)
    assert list(world.database.records()) == ["a"]


def test_a_take_over_that_fails_unexpectedly_is_no_success(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = break_dispatching(monkeypatch)
    with pytest.raises(Exception, match="LookupError"):
        world.dispatcher._ask(lambda queue: None)
    broken.is_broken = False
    world.dispatcher.open()
    world.dispatcher._ask(lambda queue: None)

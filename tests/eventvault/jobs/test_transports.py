"""What dispatcher and workers may rely on, whatever lies between them: one suite for all transports."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.jobs.job import MAX_PAYLOAD_BYTES, JobError, JobProgress
from eventvault.jobs.messages import Beat, Bye, Done, Failed, Fenced, GiveBack, Progressed, Returned, Started, Stop
from eventvault.jobs.transport import OutboxMessage
from eventvault.settings import Settings
from tests.eventvault.jobs.transport_ends import (
    PATIENCE_SECONDS,
    MemoryEnds,
    SocketEnds,
    TransportEnds,
    hello,
    kafka_ends,
    meet,
    opened,
    reports_of,
    run,
    ticks_of,
    work_for,
)

pytestmark = pytest.mark.slow


@pytest.fixture(params=["memory", "socket", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.process])])
def ends(
    request: pytest.FixtureRequest, tmp_path: Path, settings_with: Callable[[dict[str, str]], Settings]
) -> Iterator[TransportEnds]:
    transports: dict[str, Callable[[], TransportEnds]] = {
        "memory": MemoryEnds,
        "socket": lambda: SocketEnds(tmp_path),
        "kafka": lambda: kafka_ends(request.getfixturevalue("kafka"), settings_with),
    }
    made = transports[request.param]()
    yield made
    made.close()


def test_each_message_arrives_as_it_was_sent(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    partition = meet(dispatcher, worker, "s1")
    sent = [
        run("s1", "t1", b'{"text": "\xc3\xa4", "n": 1.50}'), Stop(to="s1", stop=["t1"], reason="cancelled"),
        GiveBack(to="s1", give_back=["t2", "t3"]), Fenced(to="s1"),
    ]  # fmt: skip
    dispatcher.send(sent)
    assert work_for(worker, 4, dispatcher) == sent
    reports = [
        hello("s1", partition), Beat(session="s1", have=["t1"]), Started(session="s1", token="t1", job="j"),
        Progressed(session="s1", token="t1", job="j", progress=JobProgress(0.5, "half")),
        Done(session="s1", token="t1", job="j", seconds=1.5, result=msgspec.Raw(b'{"rows": 1}'), output="printed"),
        Failed(session="s1", token="t2", job="k", seconds=0.5, error=JobError("job_failed", "no")),
        Returned(session="s1", token="t3", job="l"), Bye(session="s1"),
    ]  # fmt: skip
    worker.report(reports)
    assert reports_of(dispatcher, lambda found: len(found) == len(reports)) == reports


@pytest.mark.slow
def test_each_session_gets_its_own_work_in_order(ends: TransportEnds) -> None:
    dispatcher = ends.start_dispatcher()
    workers = [ends.make_worker() for _ in range(3)]
    for number, worker in enumerate(workers):
        meet(dispatcher, worker, f"s{number}")
    dispatcher.send([run(f"s{number % 3}", f"t{number}") for number in range(300)])
    for number, worker in enumerate(workers):
        tokens = [work.token for work in work_for(worker, 100, dispatcher)]  # type: ignore[union-attr]
        assert tokens == [f"t{other}" for other in range(number, 300, 3)]


@pytest.mark.slow
def test_reports_of_many_arrive_in_the_order_of_each_session(ends: TransportEnds) -> None:
    dispatcher = ends.start_dispatcher()
    workers = [ends.make_worker() for _ in range(3)]
    for number, worker in enumerate(workers):
        meet(dispatcher, worker, f"s{number}")
    for first in range(0, 500, 50):
        for number, worker in enumerate(workers):
            worker.report([Returned(session=f"s{number}", token=str(n), job="j") for n in range(first, first + 50)])
            worker.receive(0, 1)
    found: list[Any] = reports_of(dispatcher, lambda found: len(found) >= 1500)
    for number in range(3):
        assert [each.token for each in found if each.session == f"s{number}"] == [str(n) for n in range(500)]


@pytest.mark.slow
def test_the_largest_payload_arrives(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    payload = b'"' + b"x" * (MAX_PAYLOAD_BYTES - 2) + b'"'
    dispatcher.send([run("s1", "t1", payload)])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t1", payload)]


@pytest.mark.slow
def test_what_is_sent_to_a_session_that_nobody_has_is_dropped(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    dispatcher.send([run("nobody", "t1"), Fenced(to="nobody"), run("s1", "t2")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t2")]


@pytest.mark.slow
def test_ticks_come_once_each_in_order(ends: TransportEnds) -> None:
    ticks = ticks_of(ends.start_dispatcher(), 4)
    assert [tick.number for tick in ticks] == list(range(ticks[0].number, ticks[0].number + len(ticks)))
    assert len({tick.dispatcher for tick in ticks}) == 1


def test_a_receive_that_waits_is_ended_by_another_thread(ends: TransportEnds) -> None:
    dispatcher = ends.start_dispatcher()
    is_over = threading.Event()

    def wake() -> None:
        while not is_over.wait(0.03):
            dispatcher.wake()

    waker = threading.Thread(target=wake)
    waker.start()
    began = time.monotonic()
    while dispatcher.receive(PATIENCE_SECONDS, 100)[0]:
        assert time.monotonic() - began < PATIENCE_SECONDS / 2, "the wait is not ended"
    assert time.monotonic() - began < PATIENCE_SECONDS
    is_over.set()
    waker.join(PATIENCE_SECONDS)


@pytest.mark.slow
def test_a_worker_can_wait_for_its_transport_in_a_selector(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    descriptor = worker.fileno()
    worker.receive(0, 10)
    dispatcher.send([run("s1", "t1"), run("s1", "t2")])
    found = []
    while len(found) < 2:
        readable, _, _ = select.select([descriptor], [], [], PATIENCE_SECONDS)
        assert readable, "nothing comes"
        found += worker.receive(0, 1)
    assert found == [run("s1", "t1"), run("s1", "t2")]
    opened(worker, "s2")
    assert worker.fileno() == descriptor


@pytest.mark.slow
def test_a_session_that_is_opened_anew_gets_nothing_of_the_one_before(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    dispatcher.send([run("s1", "t1")])
    meet(dispatcher, worker, "s2")
    dispatcher.send([run("s1", "t2"), run("s2", "t3")])
    assert work_for(worker, 1, dispatcher) == [run("s2", "t3")]


def test_a_worker_that_closes_has_reported_all(ends: TransportEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    worker.report([Returned(session="s1", token=str(number), job="j") for number in range(500)])
    worker.report([Bye(session="s1")])
    worker.close(PATIENCE_SECONDS)
    found = reports_of(dispatcher, lambda found: bool(found) and isinstance(found[-1], Bye))
    assert len(found) == 501


@pytest.mark.slow
def test_a_worker_and_the_next_dispatcher_find_each_other(ends: TransportEnds) -> None:
    first, worker = ends.start_dispatcher(), ends.make_worker()
    positions: list[Any] = []
    partition = opened(worker, "s1")
    worker.report([hello("s1", partition)])
    reports_of(first, lambda found: len(found) == 1, positions)
    first.close()
    worker.report([Returned(session="s1", token="t1", job="j")])
    second = ends.start_dispatcher(positions, {"s1": partition})
    greeted = worker.connections()
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(isinstance(each, Returned) for each in found):
        assert time.monotonic() < deadline, "what was reported meanwhile does not come"
        worker.receive(0, 10)
        if worker.connections() != greeted and worker.is_open():
            greeted = worker.connections()
            worker.report([hello("s1", partition)])
        found += [report for report, _ in second.receive(0.05, 100)[0]]
    ticks_of(second, 1)
    second.send([run("s1", "t2")])
    assert work_for(worker, 1, second) == [run("s1", "t2")]


def test_messages_are_published_whether_somebody_reads_them_or_not(ends: TransportEnds) -> None:
    dispatcher = ends.start_dispatcher()
    waiting = [OutboxMessage("result", str(number).encode(), b"{}") for number in range(50)]
    waiting.append(OutboxMessage("dead", None, b"\xff", (("x-eventvault-reason", b"none"),)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} messages are not published"
        for message in dispatcher.publish(waiting):
            waiting.remove(message)
        dispatcher.receive(0.05, 10)
    assert dispatcher.publish([]) == []


@pytest.mark.slow
def test_nothing_is_wrong_with_a_transport_that_works(ends: TransportEnds) -> None:
    dispatcher = ends.start_dispatcher()
    ticks_of(dispatcher, 1)
    assert not dispatcher.is_rewound()
    dispatcher.go_on()
    ticks_of(dispatcher, 1)
    assert dispatcher.problems() == []

"""`jobs.work` and `jobs.reports`: any bytes are ignored and counted, and a topic that is made anew stops nobody."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventvault.jobs import messages
from eventvault.jobs.messages import Beat, Fenced, Returned, SessionHello, Tick, Work, encode
from eventvault.jobs.transport import Position
from eventvault.kafka.jobs.job_topics import WORK_PARTITIONS
from tests.eventvault.jobs.transport_ends import (
    PATIENCE_SECONDS,
    KafkaEnds,
    hello,
    meet,
    reports_of,
    run,
    ticks_of,
    work_for,
)
from tests.kafka_broker import Kafka
from tests.processes import wait_until

pytestmark = pytest.mark.slow

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(), max_size=2)
KINDS = st.sampled_from(["run", "stop", "hello", "beat", "done", "failed", "tick", "none"])
MEMBERS = st.sampled_from(["v", "to", "session", "token", "job", "have", "types", "number", "stop", "payload"])
HOSTILE = st.binary(max_size=60) | st.builds(
    lambda kind, members: json.dumps({"kind": kind, **members}).encode(),
    KINDS, st.dictionaries(MEMBERS, VALUES, max_size=5),
)  # fmt: skip


@given(HOSTILE)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_bytes_are_a_message_or_none(text: bytes) -> None:
    for decode in (messages.decode_work, messages.decode_report):
        try:
            message = decode(text)
        except messages.DECODE_ERRORS:
            continue
        assert decode(encode(message)) == message


@pytest.mark.kafka
def test_messages_that_are_none_are_ignored_and_counted(kafka: Kafka, ends: KafkaEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    partition = meet(dispatcher, worker, "s1")
    jobs = ends.settings.kafka_jobs_topic
    hostile = [None, b"", b"\xff", b"[" * 100_000, b'{"kind": "run"}', b'{"kind": "tick", "number": 1e999}']
    kafka.send(f"{jobs}.work", hostile, key=b"s1", partition=partition)
    kafka.send(f"{jobs}.work", [encode(run("other", "t0"))], key=b"s1", partition=partition)
    kafka.send(f"{jobs}.reports", [*hostile, encode(hello("far", 10**12)), encode(hello("far", -1))])
    dispatcher.send([run("far", "t1"), run("s1", "t2")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t2")]
    found = reports_of(dispatcher, lambda found: len(found) >= 2)
    assert [each.partition for each in found if isinstance(each, SessionHello)] == [10**12, -1]
    dispatcher.send([run("far", "t3")])
    assert dispatcher.invalid == len(hostile)


@pytest.mark.kafka
def test_a_session_whose_topic_is_made_anew_says_hello_again(kafka: Kafka, ends: KafkaEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    partition = meet(dispatcher, worker, "s1")
    connections = worker.connections()
    kafka.delete(f"{ends.settings.kafka_jobs_topic}.work")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while worker.connections() == connections:
        assert time.monotonic() < deadline, "the worker does not notice"
        dispatcher.receive(0.1, 100)
        worker.receive(0, 1)
    worker.report([hello("s1", partition)])
    reports_of(dispatcher, lambda found: any(isinstance(each, SessionHello) for each in found))
    dispatcher.send([run("s1", "t1")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t1")]


@pytest.mark.kafka
def test_reports_go_on_in_a_topic_that_is_made_anew(kafka: Kafka, ends: KafkaEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    before = ticks_of(dispatcher, 1)[-1].number
    kafka.delete(f"{ends.settings.kafka_jobs_topic}.reports")
    worker.report([Returned(session="s1", token="t1", job="j")])
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(isinstance(each, Returned) for each in found):
        assert time.monotonic() < deadline, "the report does not come"
        found += [report for report, _ in dispatcher.receive(0.1, 100)[0]]
        worker.receive(0, 1)
    numbers = [each.number for each in (*found, *ticks_of(dispatcher, 2)) if isinstance(each, Tick)]
    assert numbers == list(range(before + 1, before + 1 + len(numbers)))


@pytest.mark.kafka
def test_work_goes_on_in_a_topic_that_lost_its_beginning_or_has_grown(
    kafka: Kafka, ends: KafkaEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    partition = meet(dispatcher, worker, "s1")
    topic = f"{ends.settings.kafka_jobs_topic}.work"
    dispatcher.send([run("s1", "t1")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t1")]
    kafka.remove_before(topic, 1, partition)
    dispatcher.send([run("s1", "t2")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t2")]
    kafka.add_partitions(topic, 2 * WORK_PARTITIONS)
    monkeypatch.setattr("eventvault.kafka.jobs.work_reader.random.randrange", lambda partitions: partitions - 1)
    late = ends.make_worker()
    assert meet(dispatcher, late, "s2") == 2 * WORK_PARTITIONS - 1
    dispatcher.send([run("s1", "t3")])
    assert work_for(worker, 1, dispatcher) == [run("s1", "t3")]
    found: list[Work] = []

    def comes() -> bool:
        """A partition that the dispatcher's client does not know yet gets nothing: it is sent again."""
        dispatcher.send([run("s2", "t4")])
        dispatcher.receive(0, 0)
        found.extend(late.receive(0.2, 100))
        return bool(found)

    wait_until(comes, "nothing comes by the new partition", PATIENCE_SECONDS)
    assert found[0] == run("s2", "t4")


@pytest.mark.kafka
def test_reports_go_on_in_a_topic_that_lost_its_beginning_or_has_grown(kafka: Kafka, ends: KafkaEnds) -> None:
    first, worker = ends.start_dispatcher(), ends.make_worker()
    sessions = {"s1": meet(first, worker, "s1")}
    topic = f"{ends.settings.kafka_jobs_topic}.reports"
    worker.report([Beat(session="s1")])
    positions: list[Position] = []
    reports_of(first, lambda found: any(isinstance(each, Beat) for each in found), positions)
    first.close()
    worker.report([Returned(session="s1", token="lost", job="j")])
    wait_until(lambda: worker.receive(0, 1) == [] and kafka.total(topic) > positions[0].offset, "no report is written")
    kafka.remove_before(topic, kafka.total(topic))
    kafka.add_partitions(topic, 3)
    second = ends.start_dispatcher(positions, sessions)
    ticks_of(second, 2)
    worker.report([Returned(session="s1", token="t1", job="j")])
    found = reports_of(second, lambda found: any(isinstance(each, Returned) for each in found))
    assert [each.token for each in found if isinstance(each, Returned)] == ["t1"]
    assert not second.is_rewound()
    second.send([run("s1", "t2")])
    assert work_for(worker, 1, second) == [run("s1", "t2")]


@pytest.mark.kafka
def test_a_session_hears_that_it_is_over_from_a_dispatcher_that_never_read_its_hello(ends: KafkaEnds) -> None:
    dispatcher, worker = ends.start_dispatcher(), ends.make_worker()
    meet(dispatcher, worker, "s1")
    worker.report([Beat(session="s1")])
    positions: list[Position] = []
    reports_of(dispatcher, lambda found: found, positions)
    dispatcher.close()
    second = ends.start_dispatcher(positions)
    ticks_of(second, 1)
    second.send([Fenced(to="s1")])
    assert work_for(worker, 1, second) == [Fenced(to="s1")]

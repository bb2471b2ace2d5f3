"""Messages of the topic `jobs`: each is a job once, and one that is none says why and stops nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventvault.jobs import commands, keys, quarantine, submissions
from eventvault.jobs.queue import QueueLimits
from eventvault.jobs.transport import Loss, Position, Submitted
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import START, World, request

LIMITS = QueueLimits(publishes=True, refused_from_kafka=submissions.BUILT_IN)


@pytest.fixture
def world() -> World:
    return World(positions=True, limits=LIMITS)


def send(world: World, *values: Any, offset: int = 0) -> None:
    """Let messages come that the topic has from `offset` on."""
    for number, value in enumerate(values, offset):
        text = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        world.wire.submitted.append(Submitted(b"key", text, (("h", b"v"),), Position("jobs", 0, number + 1)))
    world.turns(2)


def outcomes(world: World) -> list[dict[str, Any]]:
    return [json.loads(message.value or b"") for message in world.wire.published if message.kind == "result"]


def dead(world: World) -> list[tuple[bytes | None, bytes]]:
    return [
        (message.value, dict(message.headers)["x-eventvault-code"] or b"")
        for message in world.wire.published
        if message.kind == "dead"
    ]


def test_a_message_is_a_job_and_its_outcome_goes_to_the_topic_of_outcomes(world: World) -> None:
    worker = world.worker("report")
    send(world, {"id": "a", "type": "report", "payload": {"x": 1.50}, "priority": 3, "maxAttempts": 2, "more": "text"})
    job = world.job("a")
    assert (job.state, job.origin, job.priority, job.max_attempts) == ("sent", "kafka", 3, 2)
    worker.take()
    assert bytes(world.runs[0].message.payload) == b'{"x":1.5}'
    worker.finish()
    world.turns(3)
    assert [(each["id"], each["state"], each["result"]) for each in outcomes(world)] == [("a", "done", None)]
    assert world.database.keys_of(keys.OUTBOX) == []


def test_a_message_that_is_read_twice_is_one_job(world: World) -> None:
    send(world, {"id": "a", "type": "report"})
    send(world, {"id": "a", "type": "report"})
    assert list(world.database.records()) == ["a"]
    assert world.wire.published == []


def test_another_job_with_the_id_of_one_is_a_dead_letter(world: World) -> None:
    send(world, {"id": "a", "type": "report", "payload": 1}, {"id": "a", "type": "report", "payload": 2})
    assert dead(world) == [(b'{"id": "a", "type": "report", "payload": 2}', b"job_differs")]
    assert outcomes(world) == []


def test_the_second_one_of_a_unique_text_is_not_added(world: World) -> None:
    send(world, {"id": "a", "type": "t", "unique": "u"}, {"id": "b", "type": "t", "unique": "u"})
    assert list(world.database.records()) == ["a"]
    assert world.wire.published == []


@pytest.mark.parametrize(
    ("value", "code", "job_id"),
    [
        (None, "malformed", "jobs/0/7"),
        (b"\xff nonsense", "malformed", "jobs/0/7"),
        (b"[1]", "invalid", "jobs/0/7"),
        ({"type": "report"}, "invalid", "jobs/0/7"),
        ({"id": "", "type": "report"}, "invalid", "jobs/0/7"),
        ({"id": "a" * 1001, "type": "report"}, "invalid", "jobs/0/7"),
        ({"id": "a", "type": 5}, "invalid", "a"),
        ({"id": "a", "type": "prune"}, "invalid", "a"),
        ({"id": "a", "type": "t", "delay": -1}, "invalid", "a"),
        ({"id": "a", "type": "t", "payload": "x" * 600_000}, "too_large", "a"),
        (b'{"id": "a", "id": "b", "type": "t"}', "invalid", "b"),
    ],
)
def test_a_message_that_is_no_job_is_quarantined_and_says_why(world: World, value: Any, code: str, job_id: str) -> None:
    send(world, value, {"id": "next", "type": "report"}, offset=7)
    assert list(world.database.records()) == ["next"]
    assert [(each["id"], each["state"], each["error"]["code"]) for each in outcomes(world)] == [
        (job_id, "failed", code)
    ]
    assert [each[1] for each in dead(world)] == [code.encode()]
    ((key, entry),) = world.database.scan(keys.QUARANTINE, keys.end_of(keys.QUARANTINE))
    assert key == keys.quarantine_key("jobs", 0, 7)
    found = msgspec.msgpack.decode(entry, type=quarantine.QuarantinedSubmission)
    assert (found.instant, found.error.code, found.key, found.headers) == (START, code, b"key", (("h", b"v"),))


def test_a_built_in_type_comes_by_the_topic_if_it_is_named() -> None:
    world = World(positions=True, limits=QueueLimits(refused_from_kafka=submissions.BUILT_IN - {"verify"}))
    send(world, {"id": "a", "type": "verify"}, {"id": "b", "type": "prune"})
    assert list(world.database.records()) == ["a"]
    assert world.wire.published == []


def test_the_quarantine_holds_a_limited_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 3)
    send(world, *[b"{"] * 10)
    assert len(world.database.keys_of(keys.QUARANTINE)) == 3
    assert len(dead(world)) == 10


def test_a_full_queue_leaves_messages_in_the_topic() -> None:
    world = World(positions=True, limits=QueueLimits(max_unfinished=1))
    world.submit(request("a"))
    send(world, {"id": "b", "type": "report"})
    assert list(world.database.records()) == ["a"]
    assert world.wire.submitted
    world.ask(lambda queue: commands.cancel(queue, ["a"]))
    world.turns(2)
    assert list(world.database.records()) == ["a", "b"]


def test_what_a_topic_lost_is_on_disk_with_what_follows_it_until_it_is_accepted(world: World) -> None:
    loss = Loss("jobs/0/7", "kafka_messages_gone", "7 messages of jobs/0 are gone", "send them again")
    world.wire.lost = [loss]
    world.wire.produce(b"{}")
    world.database.kill = "after"
    world.turn()
    assert world.wire.losses() == [loss], "the next dispatcher names it too"
    assert world.dispatcher.positions()[0].offset == 1, "what follows was written with it"

    world.wire.lost = []
    world.start()
    assert world.wire.losses() == [loss]
    world.dispatcher.accept_losses()
    world.turns(2)
    world.start()
    assert world.wire.losses() == []


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(), max_size=2)
MEMBERS = st.sampled_from(["id", "type", "payload", "delay", "runAt", "priority", "key", "unique", "timeout"])
HOSTILE = st.binary(max_size=40) | st.builds(
    lambda members: json.dumps({"id": "a", "type": "t", **members}).encode(),
    st.dictionaries(MEMBERS, VALUES, max_size=4),
)


@given(st.lists(st.none() | HOSTILE, max_size=6))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_a_job_or_quarantined_and_the_dispatcher_goes_on(values: list[bytes | None]) -> None:
    world = World(positions=True, limits=LIMITS)
    send(world, *values, {"id": "last", "type": "report"})
    check_database(world.database)
    assert world.state("last") == "pending"
    assert world.dispatcher.positions()[0].offset == len(values) + 1


@pytest.mark.slow
def test_jobs_whose_worker_comes_a_minute_later_are_all_done(world: World) -> None:
    """As at a first start, when the topic has jobs already and the worker is still being built."""
    send(world, *({"id": f"j{number}", "type": "report"} for number in range(1_000)))
    for _ in range(6):
        world.clocks.pass_seconds(10)
        world.wire.tick()
        world.turn()
    worker = world.worker("report", concurrency=100)
    for _ in range(20):
        worker.take()
        for token in list(worker.running):
            worker.finish(token)
        world.turns(2)
    assert {job.state for job in world.database.records().values()} == {"done"}
    assert {job.tries for job in world.database.records().values()} == {0}

"""Outcomes and dead letters: each is on disk with its job's end, and until the brokers have it."""

from __future__ import annotations

import json

import pytest

from eventvault.jobs import commands, keys
from eventvault.jobs.queue import QueueLimits
from tests.eventvault.jobs.rig import World, request


@pytest.fixture
def world() -> World:
    return World(positions=True, limits=QueueLimits(publishes=True))


def outcomes(world: World) -> list[tuple[str, str]]:
    world.turns()
    values = [json.loads(message.value or b"") for message in world.wire.published if message.kind == "result"]
    return [(value["id"], value["state"]) for value in values]


@pytest.mark.parametrize("where", ["before", "after", "send"])
def test_a_message_is_taken_once_when_the_dispatcher_is_killed(world: World, where: str) -> None:
    worker = world.worker("report")
    world.wire.produce(b'{"id": "a", "type": "report"}')
    world.wire.kills_before_send, world.database.kill = where == "send", where if where != "send" else ""
    world.turns()
    assert world.database.records().keys() == {"a"}
    worker.take()
    worker.finish()
    assert outcomes(world) == [("a", "done")]
    world.start()
    world.turns()
    assert [run.message.job for run in world.runs] == ["a"]


def test_outcomes_wait_on_disk_until_the_brokers_have_them(world: World) -> None:
    worker = world.worker("report")
    world.wire.drops_published = True
    for number in range(5):
        world.submit(request(f"j{number}", max_attempts=1))
        worker.take()
        worker.finish(outcome="failed" if number == 4 else "done")
        world.turn()
    assert len(world.database.keys_of(keys.OUTBOX)) == 6
    world.start()
    world.turns()
    world.wire.drops_published = False
    assert outcomes(world) == [(f"j{number}", "done") for number in range(4)] + [("j4", "failed")]
    (dead,) = [message for message in world.wire.published if message.kind == "dead"]
    assert json.loads(dead.value or b"")["id"] == "j4"
    world.turns()
    assert world.database.keys_of(keys.OUTBOX) == []


def test_a_cancelled_job_is_a_failed_outcome(world: World) -> None:
    world.submit(request("a"))
    world.ask(lambda queue: commands.cancel(queue, ["a"]))
    assert outcomes(world) == [("a", "failed")]

"""Lists of jobs: each filter against a list that was made from all records."""

from __future__ import annotations

import itertools

import pytest

from eventvault.errors import JobNotFound
from eventvault.jobs import commands
from tests.eventvault.jobs.rig import World, request

STATES = ["pending", "sent", "running", "done", "dead", "cancelled"]


@pytest.fixture(scope="module")
def world() -> World:
    """Two types with jobs in all states, created in turns."""
    world = World()
    worker = world.worker("report", "invoice", concurrency=3)
    for number in range(24):
        delay = 1_000.0 if number % 6 == 4 else None
        world.submit(request(f"j{number:02}", ("report", "invoice")[number % 2], delay=delay))
        if number % 6 == 5:
            continue
        worker.take()
        for token, run in list(worker.running.items()):
            if run.message.job == f"j{number:02}" and number % 6 < 3:
                worker.finish(token, ("done", "fail", "done")[number % 6])
        world.turn()
    worker.started(next(iter(worker.running)))
    world.ask(lambda queue: commands.cancel(queue, ["j22", "j23"]))
    world.turns()
    return world


def test_the_world_has_jobs_in_all_states(world: World) -> None:
    assert {job.state for job in world.database.records().values()} == set(STATES)


@pytest.mark.parametrize("types", [[], ["report"], ["invoice", "report"], ["none"]])
@pytest.mark.parametrize("limit", [1, 5, 100])
def test_pages_of_each_filter_have_the_jobs_of_all_records_newest_first(
    world: World, types: list[str], limit: int
) -> None:
    newest = sorted(world.database.records().values(), key=lambda job: -job.order)
    combinations = [(), *itertools.chain.from_iterable(itertools.combinations(STATES, count) for count in (1, 2, 3))]
    for states in combinations:
        wanted = [job.id for job in newest if (not states or job.state in states) and (not types or job.type in types)]
        found: list[str] = []
        before = None
        while True:
            page = world.jobs.list_jobs(list(states), types, limit, before)
            assert len(page.jobs) <= limit
            found += [job.id for job in page.jobs]
            before = page.next
            if before is None:
                break
        assert found == wanted, states


def test_a_list_before_a_job_that_is_unknown_is_refused(world: World) -> None:
    with pytest.raises(JobNotFound):
        world.jobs.list_jobs([], [], 10, "none")
    with pytest.raises(JobNotFound):
        world.jobs.job("none")


def test_a_job_has_its_payload_until_it_is_done_and_then_its_result(world: World) -> None:
    done = world.jobs.list_jobs(["done"], [], 1, None).jobs[0]
    dead = world.jobs.list_jobs(["dead"], [], 1, None).jobs[0]
    assert (world.jobs.job(done.id).payload, bytes(world.jobs.job(done.id).result or b"")) == (None, b"null")
    assert (bytes(world.jobs.job(dead.id).payload or b""), world.jobs.job(dead.id).result) == (b"null", None)


def test_unfinished_jobs_after_an_instant_are_counted_and_cancelled() -> None:
    world = World()
    world.submit(request("a"))
    moment = world.clocks.now
    world.clocks.pass_seconds(1)
    world.submit(request("b"), request("c", delay=100.0))
    assert world.jobs.count_unfinished_after(moment) == 2
    assert world.jobs.count_unfinished_after(0) == 3

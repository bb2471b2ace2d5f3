"""What is forgotten and when, and what becomes of jobs that no worker knows."""

from __future__ import annotations

from eventvault.jobs import commands
from eventvault.jobs.queue import DAY, QueueLimits
from eventvault.jobs.upkeep import START_SECONDS, UNKNOWN_SECONDS
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import World, request


def run(world: World, count: int, first: int = 0, outcome: str = "done") -> None:
    for number in range(first, first + count):
        world.submit(request(f"j{number:04}"))
        world.workers[0].take()
        world.workers[0].finish(outcome=outcome)
        world.turn()
        world.clocks.pass_seconds(1)


def test_jobs_that_ended_long_ago_are_removed_dead_ones_later() -> None:
    world = World(limits=QueueLimits(keep=DAY, keep_dead=3 * DAY))
    world.worker("report")
    run(world, 3)
    run(world, 2, first=3, outcome="fail")
    world.clocks.pass_seconds(86_400 - 1)
    world.turn()
    assert sorted(world.database.records()) == ["j0003", "j0004"]
    world.clocks.pass_seconds(2 * 86_400 + 1)
    world.turn()
    assert world.database.records() == {}
    check_database(world.database)


def test_the_oldest_jobs_are_removed_once_there_are_too_many() -> None:
    world = World(limits=QueueLimits(keep_max=5))
    world.worker("report")
    run(world, 20)
    world.turn()
    assert sorted(world.database.records()) == [f"j{number:04}" for number in range(15, 20)]
    check_database(world.database)


def test_unfinished_jobs_are_never_removed() -> None:
    world = World(limits=QueueLimits(keep=DAY, keep_max=1))
    world.worker("report")
    world.ask(lambda queue: commands.pause(queue, "report"))
    world.submit(*(request(f"j{number}") for number in range(5)))
    world.clocks.pass_seconds(400 * 86_400)
    world.turn()
    assert len(world.database.records()) == 5


def test_jobs_that_ended_after_a_clock_was_set_back_are_removed_too() -> None:
    world = World(limits=QueueLimits(keep=DAY))
    world.worker("report")
    run(world, 1)
    world.clocks.pass_seconds(86_400)
    world.turn()
    world.clocks.now -= 10 * DAY
    run(world, 1, first=1)
    world.clocks.pass_seconds(20 * 86_400)
    world.turn()
    assert world.database.records() == {}


def test_a_type_that_no_living_worker_runs_is_a_problem_after_a_minute() -> None:
    world = World()
    world.submit(request("a"))
    world.clocks.pass_seconds(UNKNOWN_SECONDS)
    world.turns()
    assert world.dispatcher.status().problems == []
    world.clocks.pass_seconds(60)
    world.turn()
    (problem,) = world.dispatcher.status().problems
    assert (problem.code, "report" in problem.message) == ("jobs_wait_for_worker", True)
    world.worker("report")
    world.clocks.pass_seconds(10)
    world.turn()
    assert world.dispatcher.status().problems == []


def test_a_job_dies_whose_type_no_worker_named_for_a_day_but_not_at_a_start() -> None:
    world = World(limits=QueueLimits(unknown_after=DAY))
    world.worker("known").kill()
    world.lose_lease()
    world.submit(request("a"), request("b", "known"))
    world.clocks.pass_seconds(2 * 86_400)
    world.start()
    world.turns()
    assert world.state("a") == "pending"
    world.clocks.pass_seconds(START_SECONDS)
    world.turn()
    assert [world.state(job_id) for job_id in "ab"] == ["dead", "pending"]
    assert (world.job("a").error or 0).code == "job_type_unknown"
    check_database(world.database)


def test_health_names_the_oldest_job_that_waits() -> None:
    world = World()
    first = world.clocks.now
    world.submit(request("a"), request("b", delay=5.0))
    world.clocks.pass_seconds(60)
    world.turn()
    status = world.dispatcher.status()
    assert (status.oldest_waiting, status.waiting, status.workers) == (first, 2, 0)
    world.ask(lambda queue: commands.pause(queue, "report"))
    world.clocks.pass_seconds(10)
    world.turn()
    world.clocks.pass_seconds(1)
    world.turn()
    assert world.dispatcher.status().oldest_waiting is None

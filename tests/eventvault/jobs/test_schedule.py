"""Jobs at set times: each firing once, over changes of the clock, kills, and days in which nothing ran."""

from __future__ import annotations

import msgspec
import pytest

from eventvault import clock
from eventvault.errors import InvalidInput, JobScheduleInCode, JobScheduleNotFound
from eventvault.jobs import keys, schedule
from eventvault.jobs.job import MAX_NAME_LENGTH, MAX_SCHEDULE_NAME_LENGTH, JobSchedule
from eventvault.jobs.schedule import StoredSchedule, id_of_firing
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import World, request

HOUR = 3_600


def at(text: str) -> World:
    """A world whose clock shows this instant."""
    world = World()
    world.clocks.now = clock.parse(text)
    return world


def put(world: World, cron: str, **members: object) -> JobSchedule:
    schedule = JobSchedule(name="nightly", type="report", cron=cron, **members)  # type: ignore[arg-type]
    answer = world.ask(lambda queue: queue.schedules.put(schedule, queue.now))
    assert isinstance(answer, JobSchedule)
    return answer


def firings(world: World) -> list[str]:
    ids = sorted(world.database.records())
    assert all(job_id.startswith("cron/nightly/") for job_id in ids)
    return [job_id.removeprefix("cron/nightly/") for job_id in ids]


def pass_hours(world: World, hours: float, seconds: int = 600) -> None:
    """Let time pass in steps; a worker is there and does at once what is to be done."""
    if not world.workers:
        world.worker("report")
    for _ in range(round(hours * HOUR / seconds)):
        world.clocks.pass_seconds(seconds)
        world.turn()
        worker = world.workers[0]
        worker.take()
        while worker.running:
            worker.finish()
    world.turns()


@pytest.mark.parametrize(
    ("cron", "begin", "expected"),
    [
        ("30 2 * * *", "2027-03-27T12:00:00+01:00", ["2027-03-28T01:00:00.000Z", "2027-03-29T00:30:00.000Z"]),
        ("30 2 * * *", "2027-10-30T12:00:00+02:00", ["2027-10-31T00:30:00.000Z", "2027-11-01T01:30:00.000Z"]),
        ("0 3 * * *", "2027-03-27T12:00:00+01:00", ["2027-03-28T01:00:00.000Z", "2027-03-29T01:00:00.000Z"]),
    ],
    ids=["in the gap: once, at its end", "in the fold: once, the first", "at the end of the gap"],
)
def test_a_fixed_hour_fires_once_a_day_over_both_changes_in_berlin(cron: str, begin: str, expected: list[str]) -> None:
    world = at(begin)
    put(world, cron, time_zone="Europe/Berlin")
    pass_hours(world, 40)
    assert firings(world) == expected
    check_database(world.database)


def test_every_hour_fires_by_the_time_that_passes_in_the_fold() -> None:
    world = at("2027-10-31T01:30:00+02:00")
    put(world, "0 * * * *", time_zone="Europe/Berlin")
    pass_hours(world, 4)
    assert firings(world) == [f"2027-10-3{day}T{hour:02}:00:00.000Z" for day, hour in ((1, 0), (1, 1), (1, 2), (1, 3))]


def test_a_clock_that_is_set_back_repeats_no_firing() -> None:
    world = at("2027-06-01T00:00:00Z")
    put(world, "*/10 * * * *")
    pass_hours(world, 2)
    before = firings(world)
    assert len(before) == 12
    world.clocks.now -= HOUR * 1_000_000
    pass_hours(world, 1)
    assert firings(world) == before
    pass_hours(world, 1)
    assert len(firings(world)) == 18


def test_after_a_day_without_a_dispatcher_the_newest_firing_is_made_up_for() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *")
    world.clocks.pass_seconds(30 * HOUR)
    world.start()
    world.turns()
    assert firings(world) == ["2027-06-02T06:00:00.000Z"]


def test_a_firing_that_was_missed_for_longer_than_its_catch_up_is_not_made_up_for() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 1 * * *", catch_up=3_600.0)
    world.clocks.pass_seconds(2 * HOUR)
    world.turns()
    assert firings(world) == []
    (schedule,) = world.jobs.schedules()
    assert schedule.next == clock.parse("2027-06-02T01:00:00Z")


def test_a_firing_is_skipped_and_counted_while_the_job_before_is_unfinished() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *")
    world.clocks.pass_seconds(HOUR)
    world.turn()
    world.clocks.pass_seconds(HOUR)
    world.turn()
    assert len(firings(world)) == 1
    assert [schedule.skipped for schedule in world.jobs.schedules()] == [1]


def test_with_overlap_each_firing_is_a_job() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *", overlap=True)
    for _ in range(3):
        world.clocks.pass_seconds(HOUR)
        world.turn()
    assert len(firings(world)) == 3


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_firing_exists_once_when_the_dispatcher_is_killed_in_it(where: str) -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *")
    world.clocks.pass_seconds(HOUR)
    world.database.kill = where
    world.turns()
    assert firings(world) == ["2027-06-01T01:00:00.000Z"]


def test_a_schedule_that_never_fires_or_has_no_zone_is_refused_with_fields() -> None:
    world = at("2027-06-01T00:30:00Z")
    for cron, zone, field in (
        ("0 0 30 2 *", "UTC", "cron"),
        ("no cron", "UTC", "cron"),
        ("0 3 * * *", "Mars", "timeZone"),
    ):
        schedule = JobSchedule(name="n", type="report", cron=cron, time_zone=zone)
        call = world.dispatcher.post(lambda queue, schedule=schedule: queue.schedules.put(schedule, queue.now))
        world.turn()
        assert isinstance(call.error, InvalidInput)
        assert field in call.error.details["fields"]
    assert world.jobs.schedules() == []


def test_a_schedule_in_code_comes_with_the_worker_and_is_changed_there_alone() -> None:
    world = at("2027-06-01T00:30:00Z")
    declared = JobSchedule(name="nightly", type="report", cron="0 * * * *")
    worker = world.worker("report", schedules=[declared])
    for ask in (
        lambda queue: queue.schedules.put(declared, queue.now),
        lambda queue: queue.schedules.delete("nightly"),
    ):
        call = world.dispatcher.post(ask)
        world.turn()
        assert isinstance(call.error, JobScheduleInCode)
    worker.hello()
    world.clocks.pass_seconds(HOUR)
    world.turns()
    assert firings(world) == ["2027-06-01T01:00:00.000Z"]
    worker.schedules = []
    worker.hello()
    world.turn()
    assert world.jobs.schedules() == []


def test_the_longest_name_of_a_schedule_makes_ids_that_are_possible() -> None:
    assert len(id_of_firing("n" * MAX_SCHEDULE_NAME_LENGTH, clock.now())) == MAX_NAME_LENGTH


@pytest.mark.slow
def test_the_next_firing_is_found_once_however_many_schedules_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(schedule, "min", lambda *values, **more: found.append(1) or min(*values, **more), raising=False)
    world = World()
    declared = [JobSchedule(name=f"n{number}", type="report", cron="0 3 * * *") for number in range(100)]
    world.worker("report", schedules=declared)
    world.clocks.pass_seconds(86_400)
    found.clear()
    world.turn()
    assert len(world.database.records()) == len(declared)
    assert len(found) < 10 + len(declared), "once, and once for each catchUp"


def test_a_schedule_is_removed() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *")
    world.ask(lambda queue: queue.schedules.delete("nightly"))
    assert world.jobs.schedules() == []
    call = world.dispatcher.post(lambda queue: queue.schedules.delete("nightly"))
    world.turn()
    assert isinstance(call.error, JobScheduleNotFound)


def test_a_changed_schedule_fires_no_missed_instant_of_its_new_form() -> None:
    world = at("2027-06-01T12:00:00Z")
    put(world, "0 3 * * *")
    put(world, "0 4 * * *")
    world.turns()
    assert firings(world) == []
    world.submit(request("cron/nightly/x"))


def test_a_schedule_whose_zone_is_not_known_any_more_stops_nothing_else() -> None:
    world = at("2027-06-01T00:30:00Z")
    put(world, "0 * * * *")
    key = keys.schedule_key("nightly")
    stored = msgspec.json.decode(world.database.entries[key], type=StoredSchedule)
    gone = msgspec.structs.replace(stored.schedule, time_zone="Europe/Nowhere")
    world.database.entries[key] = msgspec.json.encode(StoredSchedule(gone, stored.history))
    world.start()
    world.worker("report")
    world.clocks.pass_seconds(HOUR)
    world.submit(request("a"))
    world.turns()
    assert world.state("a") == "sent"
    assert [schedule.next for schedule in world.jobs.schedules()] == [None]
    assert put(world, "0 * * * *").next is not None


def test_a_worker_may_say_any_number_of_seconds_to_catch_up() -> None:
    world = at("2027-06-01T00:30:00Z")
    world.worker("report", schedules=[JobSchedule(name="nightly", type="report", cron="0 * * * *", catch_up=1e308)])
    world.clocks.pass_seconds(HOUR)
    world.turns()
    assert firings(world) == ["2027-06-01T01:00:00.000Z"]


def test_a_worker_declares_schedules_of_its_own_types_alone() -> None:
    world = at("2027-06-01T00:30:00Z")
    world.worker("report", schedules=[JobSchedule(name="nightly", type="other", cron="0 * * * *", last=2**62)])
    assert world.jobs.schedules() == []
    world.worker("other", schedules=[JobSchedule(name="nightly", type="other", cron="0 * * * *", last=2**62)])
    assert [schedule.last for schedule in world.jobs.schedules()] == [None]

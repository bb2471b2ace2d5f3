"""When a schedule fires, beside a plain walk through every minute; what is over whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault import clock
from eventvault.schedules import MAX_SPANS, Cron, History, Schedule, grace, parse_zone

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
BERLIN = "Europe/Berlin"
HOURS_AROUND = 8


def schedule(text: str, zone: str = "UTC") -> Schedule:
    return Schedule(Cron(text), parse_zone(zone))


def firings(one: Schedule, after: str, count: int) -> list[str]:
    """The next ones, on the clock of the zone."""
    found, instant = [], clock.parse(after)
    for _ in range(count):
        following = one.next_after(instant)
        assert following is not None
        instant = following
        found.append(clock.from_microseconds(instant).astimezone(one.zone).strftime("%m-%d %H:%M%z"))
    return found


def test_off_never_fires() -> None:
    for text in ("off", "OFF"):
        assert not Cron(text).is_on
        assert schedule(text).next_after(0) is None
    assert str(Cron("0 3 * * 0")) == "0 3 * * 0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", ["01-01 03:00+0000", "01-02 03:00+0000"]),
        ("*/20 4 * * *", ["01-01 04:00+0000", "01-01 04:20+0000", "01-01 04:40+0000", "01-02 04:00+0000"]),
        ("0 0 29 2 *", ["02-29 00:00+0000"]),
        ("30 1 1 * mon", ["01-01 01:30+0000", "01-05 01:30+0000"]),
        ("0 0 L * *", ["01-31 00:00+0000", "02-28 00:00+0000"]),
        ("0 0 * * 7", ["01-04 00:00+0000"]),
    ],
)
def test_the_fields_are_those_of_cron(text: str, expected: list[str]) -> None:
    assert firings(schedule(text), "2026-01-01T00:00:30Z", len(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "0 3 * *", "0 0 3 * * *", "@daily", "61 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8",
        "0 0 30 2 *", "0 0 */28 * 1#2", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,,2 * * * *", "٣ * * * *",
        "0 0 31 2,4,6 *", "off off", "never", f"{'9' * 5000} * * * *", "1#2/3 * * * *", "0 0 * * 1#2/3", "0 0 * * 1L/2",
    ],
)  # fmt: skip
def test_what_is_no_schedule_or_never_fires_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cron(text)


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "Europe", "../Berlin", "/etc/localtime", "right/UTC", "b" * 300, "CET+1", "europe berlin"]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        parse_zone(name)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        # The clocks are put forward on 2026-03-29 from 02:00 to 03:00, and back on 2026-10-25 from 03:00 to 02:00.
        ("30 2 * * *", "2026-03-28T00:00:00Z", ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]),
        ("0,30 2,3 * * *", "2026-03-29T00:00:00Z", ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"]),
        ("*/30 2 * * *", "2026-03-29T00:00:00Z", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("0 */2 * * *", "2026-03-29T00:00:00Z", ["03-29 03:00+0200", "03-29 04:00+0200", "03-29 06:00+0200"]),
        ("30 * * * *", "2026-03-29T00:00:00Z", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        ("30 0-23 * * *", "2026-03-29T00:00:00Z", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        ("30 2 * * *", "2026-10-24T22:00:00Z", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("*/30 2 * * *", "2026-10-24T22:00:00Z", ["10-25 02:00+0200", "10-25 02:30+0200", "10-26 02:00+0100"]),
        ("30 * * * *", "2026-10-25T00:00:00Z", ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"]),
        ("*/30 * * * 0", "2026-10-25T00:30:00Z", ["10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"]),
    ],
)
def test_daylight_saving_fires_fixed_hours_once_and_every_hour_by_elapsed_time(
    text: str, after: str, expected: list[str]
) -> None:
    assert firings(schedule(text, BERLIN), after, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        # On Lord Howe the clocks are put forward by half an hour, from 02:00 to 02:30, and back from 02:00 to 01:30.
        ("30 * * * *", "2026-10-03T15:00:00Z", ["10-04 02:30+1100", "10-04 03:30+1100"]),
        ("45 * * * *", "2026-10-03T15:00:00Z", ["10-04 01:45+1030", "10-04 02:45+1100"]),
        ("0 * * * *", "2026-10-03T15:00:00Z", ["10-04 03:00+1100", "10-04 04:00+1100"]),
        ("30 * 4 10 *", "2026-09-01T00:00:00Z", ["10-04 00:30+1030", "10-04 01:30+1030", "10-04 02:30+1100"]),
        ("30 * * * *", "2026-04-04T14:00:00Z", ["04-05 01:30+1100", "04-05 01:30+1030", "04-05 02:30+1030"]),
        ("0 * * * *", "2026-04-04T14:00:00Z", ["04-05 02:00+1030", "04-05 03:00+1030"]),
    ],
)
def test_a_change_by_half_an_hour_leaves_out_no_hourly_firing(text: str, after: str, expected: list[str]) -> None:
    assert firings(schedule(text, "Australia/Lord_Howe"), after, len(expected)) == expected


def test_an_hour_that_passes_for_the_second_time_has_no_fixed_firing() -> None:
    second_pass = "2026-10-25T01:10:00Z"
    assert firings(schedule("30 2 * * *", BERLIN), second_pass, 1) == ["10-26 02:30+0100"]
    assert firings(schedule("*/10 2,3 * * *", BERLIN), second_pass, 1) == ["10-25 03:00+0100"]


def test_a_day_that_a_zone_left_out_fires_at_its_end() -> None:
    """Samoa went from the end of 2011-12-29 to 2011-12-31."""
    apia = schedule("0 12 * * *", "Pacific/Apia")
    assert firings(apia, "2011-12-29T00:00:00Z", 3) == ["12-29 12:00-1000", "12-31 00:00+1400", "12-31 12:00+1400"]


def test_the_end_of_the_years_has_no_next_firing() -> None:
    assert schedule("0 0 1 1 *", BERLIN).next_after(clock.YEAR_10000 - 1) is None


CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00Z"), ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"), ("America/New_York", "2026-11-01T06:00Z"),
    ("America/Havana", "2026-03-08T05:00Z"), ("America/Havana", "2026-11-01T05:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00Z"), ("Africa/Cairo", "2026-10-29T21:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"), ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Asia/Kolkata", "2026-03-29T01:00Z"), ("UTC", "2026-03-29T01:00Z"),
]  # fmt: skip
minutes = st.sampled_from(["0", "30", "15,45", "*/20", "*", "59", "5-9", "7/25"])
hours = st.sampled_from(["*", "0-23", "2", "1,2,3", "*/2", "0", "23", "1-2", "0,1", "22-23", "3", "*/3"])
days = st.sampled_from(["* *", "* 0", "* 5", "24 *", "29 1", "*/2 6,0"])


def matcher(expression: str) -> Callable[[datetime], bool]:
    """Whether cron fires at a minute of a wall clock; only the forms above are understood."""
    minute, hour, day, _, weekday = expression.split()
    minutes, hours = ({value for value in range(60) if among(text, value, 0, most)} for text, most in
                      ((minute, 59), (hour, 23)))  # fmt: skip
    is_either = "*" not in day[:1] + weekday[:1]

    @cache
    def on_day(date: date) -> bool:
        by_day, by_weekday = among(day, date.day, 1, 31), among(weekday, date.isoweekday() % 7, 0, 6)
        return by_day or by_weekday if is_either else by_day and by_weekday

    return lambda wall: wall.minute in minutes and wall.hour in hours and on_day(wall.date())


def among(text: str, value: int, least: int, most: int) -> bool:
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = ("" if span == "*" else span).partition("-")
        start = int(first or least)
        end = int(last or (most if step or not first else start))
        if start <= value <= end and (value - start) % int(step or 1) == 0:
            return True
    return False


@cache
def minutes_around(zone: str, middle: str) -> tuple[list[datetime], list[datetime]]:
    """Each minute of some hours, and what the clocks of the zone show then."""
    start = datetime.fromisoformat(middle) - timedelta(hours=HOURS_AROUND)
    elapsed = [start + timedelta(minutes=number) for number in range(2 * HOURS_AROUND * 60)]
    return elapsed, [instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for instant in elapsed]


def walk(expression: str, elapsed: list[datetime], walls: list[datetime]) -> list[datetime]:
    """All firings, by looking at every minute: of the clocks, or where each hour counts, of elapsed time."""
    matches = matcher(expression)
    if expression.split()[1] in ("*", "0-23"):
        return [instant for instant, wall in zip(elapsed, walls, strict=True) if matches(wall)]
    first: dict[datetime, datetime] = {}
    for instant, wall in zip(elapsed, walls, strict=True):
        first.setdefault(wall, instant)
    found, wall = set(), walls[0]
    while wall <= max(walls):
        if matches(wall):
            found.add(first.get(wall) or min(instant for later, instant in first.items() if later > wall))
        wall += timedelta(minutes=1)
    return sorted(found)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(CHANGES), minutes, hours, days)
def test_every_firing_is_that_of_a_walk_through_all_minutes(
    change: tuple[str, str], minute: str, hour: str, day: str
) -> None:
    month_day, weekday = day.split()
    expression = f"{minute} {hour} {month_day} * {weekday}"
    elapsed, walls = minutes_around(*change)
    one, last = schedule(expression, change[0]), clock.to_microseconds(elapsed[-1])
    instant, found = clock.to_microseconds(elapsed[0]) - 1, []
    while (instant := one.next_after(instant) or last + 1) <= last:
        found.append(instant)
    assert found == [clock.to_microseconds(each) for each in walk(expression, elapsed, walls)]


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CHANGES), minutes, hours, st.integers(-6 * 60, 6 * 60))
def test_from_any_moment_the_next_firing_is_the_same(change: tuple[str, str], minute: str, hour: str, at: int) -> None:
    one = schedule(f"{minute} {hour} * * *", change[0])
    middle = clock.to_microseconds(datetime.fromisoformat(change[1]))
    moment = middle + at * MINUTE
    instant = middle - 7 * HOUR
    while instant <= moment:
        instant = one.next_after(instant) or 0
    assert one.next_after(moment) == instant


def test_a_run_may_be_late_by_half_the_time_to_the_next_one_or_ten_minutes() -> None:
    daily, often = schedule("0 3 * * *", BERLIN), schedule("*/5 * * * *")
    normal, longer = clock.parse("2026-06-01T01:00:00Z"), clock.parse("2026-10-24T01:00:00Z")
    assert daily.grace(normal) == 12 * HOUR
    assert daily.grace(longer) == 12 * HOUR + 30 * MINUTE
    assert often.grace(normal) == grace(0) == 10 * MINUTE


class Watch:
    """Looks at the clock as often as the test says so, as a store does each second, and notes what it runs."""

    def __init__(self, one: Schedule, now: int) -> None:
        self.schedule, self.history, self.ran = one, History().at(now), list[int]()

    def look(self, now: int) -> int | None:
        """The firing that is run at `now`, if one is."""
        self.history = self.history.at(now)
        firing = self.history.next_firing(self.schedule, now)
        if firing is None or firing > now:
            return None
        self.history = self.history.fired(self.schedule, firing, now)
        self.ran.append(firing)
        return firing


NOON = clock.parse("2026-06-01T12:00:00Z")
HOURLY = schedule("0 * * * *")


def test_a_firing_is_run_once_and_nothing_before_the_beginning_is() -> None:
    watch = Watch(HOURLY, NOON)
    assert watch.look(NOON) is None
    assert watch.look(NOON + HOUR) == NOON + HOUR
    assert watch.look(NOON + HOUR + 1) is None
    assert watch.history.next_firing(HOURLY, NOON + HOUR + 1) == NOON + 2 * HOUR


def test_missed_firings_are_made_up_for_by_one_run() -> None:
    watch = Watch(HOURLY, NOON)
    assert watch.look(NOON + 10 * HOUR + MINUTE) == NOON + HOUR
    assert watch.look(NOON + 10 * HOUR + 2 * MINUTE) is None
    assert watch.look(NOON + 11 * HOUR) == NOON + 11 * HOUR


@pytest.mark.parametrize("back", [HOUR, 3 * HOUR, 30 * DAY, 3650 * DAY])
def test_a_clock_that_is_set_back_repeats_no_firing(back: int) -> None:
    watch = Watch(HOURLY, NOON)
    assert [watch.look(NOON + hour * HOUR) for hour in (1, 2, 3, 4)] == [NOON + hour * HOUR for hour in (1, 2, 3, 4)]
    for minute in range(0, 60 * 12, 10):
        watch.look(NOON + 4 * HOUR - back + minute * MINUTE)
    assert len(watch.ran) == len(set(watch.ran))
    assert watch.look(NOON + 5 * HOUR) in (NOON + 5 * HOUR, None)


def test_a_clock_that_was_years_ahead_and_returns_holds_up_no_firing() -> None:
    watch = Watch(HOURLY, NOON)
    ahead = NOON + 3650 * DAY
    assert watch.look(ahead) == NOON + HOUR
    assert watch.look(ahead + HOUR) == ahead + HOUR
    assert watch.look(NOON + HOUR + MINUTE) is None
    assert watch.look(NOON + 2 * HOUR) == NOON + 2 * HOUR


def test_a_clock_that_is_set_back_before_the_beginning_goes_on_from_there() -> None:
    watch = Watch(HOURLY, NOON)
    assert watch.look(NOON - DAY) is None
    assert watch.look(NOON - DAY + HOUR) == NOON - DAY + HOUR


steps = st.lists(
    st.one_of(st.integers(0, 3 * HOUR), st.integers(-5 * HOUR, 5 * HOUR), st.integers(-3650 * DAY, 3650 * DAY)),
    max_size=40,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(steps, st.sampled_from(["0 * * * *", "*/7 2,3 * * *", "30 2 * * *"]))
def test_whatever_the_clock_does_no_firing_is_run_twice_and_none_before_its_time(moves: list[int], text: str) -> None:
    watch, now = Watch(schedule(text, BERLIN), NOON), NOON
    for move in moves:
        now = min(max(now + move, 0), clock.YEAR_10000 - 1)
        firing = watch.look(now)
        assert firing is None or firing <= now
        following = watch.history.next_firing(watch.schedule, now)
        assert following is None or following > now, "one run makes up for all that was missed"
    assert len(watch.ran) == len(set(watch.ran))


def test_the_history_does_not_grow_without_end() -> None:
    watch = Watch(HOURLY, NOON)
    for day in range(1, 3 * MAX_SPANS):
        watch.look(NOON + day * DAY)
    assert len(watch.history.spans) == MAX_SPANS
    assert watch.look(NOON + 3 * MAX_SPANS * DAY) is not None


def test_a_year_has_each_day_once() -> None:
    one, instant, found = schedule("15 2 * * *", BERLIN), clock.parse("2026-01-01T00:00:00Z"), []
    while instant < clock.parse("2027-01-01T00:00:00Z"):
        instant = one.next_after(instant) or 0
        found.append(clock.from_microseconds(instant).astimezone(one.zone).date())
    assert len(found) == len(set(found)) == 366
    assert found[-1] - found[0] == timedelta(days=365)

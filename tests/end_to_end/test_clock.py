"""A clock that is set while the service runs: times stay right, backups go on, and health says what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from tests import processes
from tests.clock_shim import SettableClock
from tests.service import Service

HOUR, DAY, YEAR = 3_600, 86_400, 365 * 86_400
SECONDS = 1_000_000


@pytest.fixture
def system_clock(tmp_path: Path) -> SettableClock:
    return SettableClock(tmp_path)


def post(service: Service, name: str) -> int:
    """The instant that the event was recorded at, in microseconds."""
    reply = service.post("/api/events", {"id": name, "source": "/t", "type": "t"})
    assert reply.status == 201, reply.body
    return clock.parse(reply.json()["results"][0]["recordedtime"])


def codes(service: Service) -> dict[str, dict[str, Any]]:
    return {problem["code"]: problem for problem in service.get("/api/health").json()["problems"]}


def wait_for(service: Service, code: str, *, present: bool = True) -> dict[str, Any]:
    processes.wait_until(lambda: (code in codes(service)) == present, f"{code} is not {present}", 60)
    return codes(service).get(code, {})


def names_as_of(service: Service, instant: int) -> list[str]:
    text = clock.format_microseconds(instant)
    return [event["id"] for event in service.get(f"/api/events?asOf={text}").json()["events"]]


def true_now() -> int:
    """The test's own clock, which no test sets."""
    return clock.now()


@pytest.fixture
def running(service: Callable[..., Service], system_clock: SettableClock) -> Service:
    return service(workers=1, environment={**system_clock.environment, "AUTO_BACKUP_ENABLED": "false"})


@pytest.mark.parametrize("leap", [10 * YEAR, pytest.param(DAY, marks=pytest.mark.soak)])
def test_a_leap_ahead_dates_no_event_and_no_backup_into_the_future(
    running: Service, system_clock: SettableClock, leap: int
) -> None:
    post(running, "before")
    started = true_now()
    system_clock.set_offset(leap)
    recorded = post(running, "during")
    backup = running.post("/api/backup/create").json()
    listed = running.get("/api/backup/list").json()["backups"][0]
    assert started <= recorded <= true_now()
    assert started - SECONDS <= clock.parse(listed["created"]) <= true_now()
    assert backup["name"][:17] <= f"backup_{clock.from_microseconds(true_now()):%Y-%m-%d}"
    problem = wait_for(running, "clock_ahead")
    assert "accept" in problem["hint"]
    assert problem["acceptable"]

    system_clock.set_offset(0)
    wait_for(running, "clock_ahead", present=False)
    assert post(running, "after") <= true_now()
    assert names_as_of(running, recorded) == ["before", "during"]


def test_a_leap_ahead_that_is_accepted_counts(running: Service, system_clock: SettableClock) -> None:
    post(running, "before")
    system_clock.set_offset(YEAR)
    wait_for(running, "clock_ahead")
    assert running.post("/api/problems/clock_ahead/accept").status == 200
    assert "clock_ahead" not in codes(running)
    assert post(running, "after") >= true_now() + (YEAR - 60) * SECONDS


def test_a_leap_while_no_store_runs_is_noticed(running: Service, system_clock: SettableClock) -> None:
    post(running, "before")
    (note,) = [running.folder("STORAGE_DIR") / "clock.json"]
    processes.wait_until(note.exists, "the clock is not noted", 60)
    processes.kill(running.stores())
    system_clock.set_offset(DAY)
    assert post(running, "after") <= true_now()
    wait_for(running, "clock_ahead")


@pytest.mark.parametrize("step", [2 * HOUR, pytest.param(YEAR, marks=pytest.mark.soak)])
def test_a_clock_that_is_set_back_and_returns_harms_no_moment_before_or_after(
    running: Service, system_clock: SettableClock, step: int
) -> None:
    before = post(running, "before")
    system_clock.set_offset(-step)
    during = post(running, "during")
    assert during == before
    problem = wait_for(running, "clock_behind")
    assert "clock right" in problem["hint"]
    running.post("/api/backup/create", {"label": "set back"})
    system_clock.set_offset(0)
    wait_for(running, "clock_behind", present=False)
    assert "clock_ahead" not in codes(running)
    after = post(running, "after")
    running.post("/api/backup/create", {"label": "returned"})

    assert after > during
    assert names_as_of(running, during) == ["before", "during"]
    assert names_as_of(running, after) == ["before", "during", "after"]
    newest = running.get("/api/backup/list").json()["backups"][0]
    assert newest["label"] == "returned"
    plan = running.post(
        "/api/backup/restore", {"pointInTime": clock.format_microseconds(during), "dryRun": True}
    ).json()
    assert plan["plan"]["eventsLeftBehind"] == 1


class Poster:
    """Posts one event after another in a thread. recorded: the instant of each, in microseconds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self.recorded: list[int] = []

    def run(self) -> None:
        while not self._ended.is_set():
            self.recorded.append(post(self._service, f"e{len(self.recorded)}"))

    def wait_for_more(self) -> None:
        """Wait until two events were posted that were not begun before."""
        wanted = len(self.recorded) + 3
        processes.wait_until(lambda: len(self.recorded) >= wanted, "no more events are posted", 60)

    def end(self) -> None:
        self._ended.set()


@contextmanager
def posting(service: Service) -> Iterator[Poster]:
    poster = Poster(service)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(poster.run)
        try:
            yield poster
        finally:
            poster.end()
        running.result(60)


def names_after(service: Service, cursor: str, as_of: str = "") -> list[str]:
    """Read to the last page. cursor: "" for the first one."""
    names: list[str] = []
    moment = f"&asOf={as_of}" if as_of else ""
    while True:
        page = service.get(f"/api/events?limit=100{moment}" + (f"&after={cursor}" if cursor else "")).json()
        names += [event["id"] for event in page["events"]]
        cursor = page["next"]
        if not cursor:
            return names


@pytest.mark.soak
@pytest.mark.parametrize("order", [[-2 * HOUR, DAY, 10 * YEAR, -YEAR, 0], [10 * YEAR, -2 * HOUR, -YEAR, DAY, 0]])
def test_times_and_cursors_are_right_before_and_after_each_step_of_a_clock_while_events_are_posted(
    running: Service, system_clock: SettableClock, order: list[int]
) -> None:
    began = true_now()
    cursors: list[tuple[str, str, int]] = []
    backups = []
    with posting(running) as poster:
        for offset in order:
            poster.wait_for_more()
            instant = poster.recorded[-1]
            text = clock.format_microseconds(instant)
            cursors += [
                (running.get("/api/events?limit=2").json()["next"], "", 0),
                (running.get(f"/api/events?limit=2&asOf={text}").json()["next"], text, instant),
            ]
            backups.append(running.post("/api/backup/create", {"label": str(offset)}).json()["name"])
            system_clock.set_offset(offset)
        poster.wait_for_more()
    recorded = poster.recorded
    names = [f"e{number}" for number in range(len(recorded))]

    assert recorded == sorted(recorded)
    assert began <= recorded[0] <= recorded[-1] <= true_now()
    for instant in {instant for _, _, instant in cursors if instant} | {recorded[0], recorded[-1]}:
        count, text = sum(each <= instant for each in recorded), clock.format_microseconds(instant)
        assert names_after(running, "", text) == names[:count]
        plan = running.post("/api/backup/restore", {"pointInTime": text, "dryRun": True}).json()["plan"]
        assert plan["eventsLeftBehind"] == len(names) - count
    for cursor, text, instant in cursors:
        expected = names[: sum(each <= instant for each in recorded)] if text else names
        assert names_after(running, cursor, text) == expected[2:]
    listed = running.get("/api/backup/list").json()["backups"]
    assert [each["name"] for each in listed] == backups[::-1]
    assert [each["events"] for each in listed] == sorted((each["events"] for each in listed), reverse=True)
    assert all(clock.parse(each["created"]) <= true_now() for each in listed)


def test_the_hint_for_events_of_the_future_brings_them_to_the_present(
    running: Service, system_clock: SettableClock
) -> None:
    post(running, "good")
    system_clock.set_offset(YEAR)
    wait_for(running, "clock_ahead")
    running.post("/api/problems/clock_ahead/accept")
    post(running, "future")
    post(running, "later")
    system_clock.set_offset(0)
    problem = wait_for(running, "clock_behind")
    first = problem["details"]["firstSequence"]
    assert first == 2
    generation = running.get("/api/health").json()["store"]["generation"]
    assert f'"sequence": {first - 1}' in problem["hint"]
    assert generation in problem["hint"]

    assert running.post("/api/backup/restore", {"sequence": first - 1}).status == 200
    selection = {"into": "present", "generation": generation, "filter": {"fromSequence": first}}
    assert running.post("/api/backup/restore", selection).json()["appended"] == 2
    wait_for(running, "clock_behind", present=False)
    assert post(running, "new") <= true_now()
    assert names_as_of(running, true_now()) == ["good", "future", "later", "new"]


@pytest.mark.parametrize(
    "offset",
    [-YEAR, 10 * YEAR, pytest.param(-2 * HOUR, marks=pytest.mark.soak), pytest.param(DAY, marks=pytest.mark.soak)],
)
def test_the_schedule_goes_on_whatever_the_clock_says(
    service: Callable[..., Service], system_clock: SettableClock, offset: int
) -> None:
    running = service(workers=1, environment={**system_clock.environment, "AUTO_BACKUP_INTERVAL": "1000"})

    def newest() -> int:
        return int((running.get("/api/health").json()["backup"]["latest"] or {"events": 0})["events"])

    post(running, "first")
    processes.wait_until(lambda: newest() == 1, "no backup is made")
    system_clock.set_offset(offset)
    post(running, "second")
    processes.wait_until(lambda: newest() == 2, "no backup is made after the clock was set")
    system_clock.set_offset(0)
    post(running, "third")
    processes.wait_until(lambda: newest() == 3, "no backup is made after the clock returned")


def test_rotation_removes_the_oldest_archives_whatever_their_times_say(
    service: Callable[..., Service], system_clock: SettableClock
) -> None:
    settings = {**system_clock.environment, "AUTO_BACKUP_ENABLED": "false", "MAX_BACKUPS": "2"}
    running = service(workers=1, environment=settings)
    for number, offset in enumerate([0, -2 * HOUR, DAY, 10 * YEAR, -YEAR, 0]):
        system_clock.set_offset(offset)
        post(running, str(number))
        assert running.post("/api/backup/create").status == 200
    events = [entry["events"] for entry in running.get("/api/backup/list").json()["backups"]]
    assert events == [6, 5]


def test_a_wrong_clock_costs_no_backup_and_the_rules_apply_again_once_the_wrong_date_is_gone(
    service: Callable[..., Service], system_clock: SettableClock
) -> None:
    rules = {"MAX_BACKUPS": "1", "KEEP_DAILY": "1", "MAX_BACKUP_AGE": "90d"}
    running = service(workers=1, environment={**system_clock.environment, "AUTO_BACKUP_ENABLED": "false", **rules})
    made = [back_up(running, "right")]
    system_clock.set_offset(10 * YEAR)
    wait_for(running, "clock_ahead")
    made.append(back_up(running, "ahead"))
    assert prune(running) == []
    system_clock.set_offset(-2 * HOUR)
    wait_for(running, "clock_behind")
    made.append(back_up(running, "back"))
    assert prune(running) == []
    system_clock.set_offset(0)
    wait_for(running, "clock_behind", present=False)
    made.append(back_up(running, "right again"))

    backups = running.get("/api/backup/list").json()["backups"]
    assert [each["name"] for each in backups] == made[::-1]
    assert [each["keptBy"] for each in backups] == [["newest", "daily"], ["clock"], ["clock"], ["clock"]]
    assert running.request("DELETE", f"/api/backup/{made[2]}").status == 200
    assert prune(running) == made[:2]


def back_up(service: Service, name: str) -> str:
    post(service, name)
    made: str = service.post("/api/backup/create").json()["name"]
    return made


def prune(service: Service) -> list[str]:
    answer = service.post("/api/backup/prune")
    assert answer.status == 200, answer.body
    removed: list[str] = answer.json()["removed"]
    return removed

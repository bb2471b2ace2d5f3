"""The scheduled backups of the real service."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from tests import processes
from tests.clock_shim import SettableClock
from tests.service import Service

EVERY_SECOND = {"AUTO_BACKUP_INTERVAL": "1000"}


@pytest.fixture
def running(service: Callable[..., Service]) -> Service:
    return service(workers=1, environment=EVERY_SECOND)


def backups(running: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.get("/api/backup/list").json()["backups"]
    return found


def lines(running: Service, words: str) -> list[str]:
    return [line for line in running.log().splitlines() if "BackupManager" in line and words in line]


def job(running: Service) -> dict[str, Any]:
    found: dict[str, Any] = running.get("/api/health").json()["jobs"]["autoBackup"]
    return found


def test_one_process_backs_up_and_skips_what_did_not_change(service: Callable[..., Service]) -> None:
    running = service(workers=3, environment=EVERY_SECOND)
    running.post("/api/events", {"type": "t"})
    processes.wait_until(lambda: len(backups(running)) == 1, "no backup is made")
    processes.wait_until(lambda: len(lines(running, "nothing changed")) > 1, "no run is skipped")

    assert [backup["events"] for backup in backups(running)] == [1]
    assert "skipped" in job(running)["lastOutcome"]
    assert len(lines(running, "backing up every 1000 ms")) == 1, "one process only"
    running.post("/api/events", {"type": "t"})
    processes.wait_until(lambda: len(backups(running)) == 2, "no second backup is made")
    assert [backup["events"] for backup in backups(running)] == [2, 1]


def test_it_goes_on_after_a_take_over_without_any_request(running: Service) -> None:
    running.post("/api/events", {"type": "t"})
    (store,) = running.stores()
    os.kill(store, signal.SIGKILL)
    processes.wait_until(lambda: store not in running.processes(), "the store lives")
    size = len(running.log())

    def looked() -> bool:
        """Whether the next store made a backup, or found that the one before it had made one."""
        since = running.log()[size:]
        return "holds 1 events" in since or "nothing changed" in since

    processes.wait_until(looked, "an idle site is not backed up")
    assert len(backups(running)) == 1


def accept_the_folder(running: Service) -> None:
    """A folder that was deleted is made again once an operator accepts that its archives are gone."""

    def is_named() -> bool:
        return "backups_changed" in [problem["code"] for problem in running.get("/api/health").json()["problems"]]

    processes.wait_until(is_named, "health does not name the folder that is gone")
    assert running.post("/api/problems/backups_changed/accept").status == 200


def test_a_backup_folder_that_is_deleted_is_made_again_once_that_is_accepted(
    running: Service, settings_environment: dict[str, str]
) -> None:
    running.post("/api/events", {"type": "t"})
    processes.wait_until(lambda: len(backups(running)) == 1, "no backup is made")
    folder = Path(settings_environment["BACKUP_DIR"])
    folder.rename(folder.with_name("deleted"))

    assert running.post("/api/events", {"type": "t"}).status == 201
    accept_the_folder(running)
    processes.wait_until(lambda: running.get("/api/health").json()["backup"]["count"] == 1, "no backup is made again")
    processes.wait_until(lambda: running.get("/api/health").json()["status"] == "ok", "it does not recover")


def test_a_backup_folder_that_is_in_the_way_degrades_health_and_nothing_else(
    running: Service, settings_environment: dict[str, str]
) -> None:
    folder = Path(settings_environment["BACKUP_DIR"])
    folder.rename(folder.with_name("deleted"))
    folder.write_text("in the way")
    processes.wait_until(lambda: "failed" in (job(running)["lastOutcome"] or ""), "no run fails")

    health = running.get("/api/health").json()
    assert health["status"] == "degraded"
    assert all(problem["hint"] for problem in health["problems"])
    assert running.post("/api/events", {"type": "t"}).status == 201
    reply = running.post("/api/backup/create")
    assert (reply.status, reply.json()["code"]) == (503, "backups_unavailable")

    folder.unlink()
    accept_the_folder(running)
    processes.wait_until(lambda: running.get("/api/health").json()["status"] == "ok", "it does not recover")


class Nights:
    """A service with a schedule in Berlin, on a machine whose clock the test sets. It notices only what it runs."""

    def __init__(self, start: Callable[..., Service], system_clock: SettableClock, cron: str) -> None:
        self._start = start
        self._clock = system_clock
        self._settings = {
            **system_clock.environment,
            "AUTO_BACKUP_ENABLED": "false",
            "BACKUP_CRON": cron,
            "SCHEDULE_TIME_ZONE": "Europe/Berlin",
        }

    def start(self, instant: str) -> None:
        """Start at this instant. What is noted of the clock would not let it leap; the service bears its loss."""
        self.set(instant)
        self.running = self._start(workers=1, environment=self._settings)

    def stop(self) -> None:
        self.running.stop()
        (self.running.folder("STORAGE_DIR") / "clock.json").unlink(missing_ok=True)

    def set(self, instant: str) -> None:
        self._clock.set_offset((clock.parse(instant) - clock.now()) // 1_000_000)

    def wait_until(self, instant: str) -> None:
        """Wait until the clock of the service has passed an instant, as its answers say."""

        def passed() -> bool:
            date = parsedate_to_datetime(self.running.get("/api/health/live").headers["date"])
            return clock.to_microseconds(date) > clock.parse(instant)

        processes.wait_until(passed, f"the clock does not come to {instant}", 60)

    def wait_for_next_run(self, expected: str) -> None:
        """A store that just serves has not begun its schedule yet."""
        processes.wait_until(
            lambda: job(self.running)["nextRun"] == expected, f"nextRun is not {expected}: {job(self.running)}"
        )

    def wait_for_run(self) -> dict[str, Any]:
        processes.wait_until(lambda: job(self.running)["lastOutcome"] is not None, "nothing is run", 60)
        return job(self.running)


@pytest.fixture
def nights(service: Callable[..., Service], tmp_path: Path) -> Nights:
    return Nights(service, SettableClock(tmp_path), "30 2 * * *")


def test_a_time_that_the_clocks_leave_out_is_made_up_for_at_the_end_of_the_gap_and_not_repeated(
    nights: Nights,
) -> None:
    nights.start("2026-03-29T00:56:00Z")
    nights.wait_for_next_run("2026-03-29T01:00:00.000Z")
    nights.running.post("/api/events", {"type": "t"})
    nights.set("2026-03-29T00:59:59Z")
    ran = nights.wait_for_run()
    assert ran["lastOutcome"].startswith("backup_2026-03-29_0100")
    assert ran["nextRun"] == "2026-03-30T00:30:00.000Z"

    nights.running.post("/api/events", {"type": "t"})
    nights.set("2026-03-29T00:59:59Z")
    nights.wait_until("2026-03-29T01:00:01Z")
    assert job(nights.running) == ran


def test_a_time_that_was_missed_is_made_up_for_once_after_a_start(nights: Nights) -> None:
    nights.start("2026-10-24T12:00:00Z")
    nights.running.post("/api/events", {"type": "t"})
    nights.wait_for_next_run("2026-10-25T00:30:00.000Z")
    nights.stop()
    nights.start("2026-10-25T07:00:00Z")
    assert nights.wait_for_run()["lastOutcome"].startswith("backup_2026-10-25_0700")
    nights.running.post("/api/events", {"type": "t"})
    processes.kill(nights.running.stores())
    nights.set("2026-10-25T07:04:00Z")
    nights.wait_until("2026-10-25T07:04:02Z")
    assert job(nights.running)["lastRun"] is None
    nights.wait_for_next_run("2026-10-26T01:30:00.000Z")

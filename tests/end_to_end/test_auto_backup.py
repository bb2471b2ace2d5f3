"""The periodic backup of the real service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes
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
    before = running.stores()
    processes.kill(before)

    processes.wait_until(lambda: len(lines(running, "holds 1 events")) > 0, "an idle site is not backed up", 60)
    assert running.stores() != before


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

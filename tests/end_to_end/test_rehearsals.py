"""Rehearsals of the real service: what they say would be lost is lost, and a kill leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from tests import processes
from tests.command_line import Command
from tests.held_chores import HeldChores
from tests.service import Reply, Service

SLOW_JOURNAL = {"JOURNAL_INTERVAL": "3600000"}
QUIET = {"AUTO_BACKUP_ENABLED": "false", "SCRUB_INTERVAL": "0"}


def test_what_would_be_lost_is_what_a_client_loses_when_storage_is_taken_away(
    service: Callable[..., Service],
) -> None:
    running = service(workers=1, environment={**QUIET, **SLOW_JOURNAL})
    remembered = [running.post("/api/events", {"id": str(number), "type": "t"}).json() for number in range(3)]
    running.post("/api/backup/create")
    remembered += [running.post("/api/events", {"id": str(number), "type": "t"}).json() for number in range(3, 8)]

    rehearsal = running.post("/api/backup/rehearse").json()["rehearsal"]
    processes.kill(running.processes())  # before any of them can write to the journal
    running.stop(signal.SIGKILL)
    shutil.rmtree(running.folder("STORAGE_DIR"))
    recovered = service(workers=1, environment={**QUIET, "AUTO_RECOVER": "true"})

    events = recovered.get("/api/health").json()["store"]["events"]
    assert rehearsal["ok"] is True
    assert rehearsal["rpoEvents"] == len(remembered) - events
    assert rehearsal["moment"]["sequence"] == rehearsal["events"] == events
    assert rehearsal["rpoSeconds"] > 0


def test_a_store_that_is_killed_in_a_rehearsal_leaves_nothing_and_the_next_one_answers(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    chores = HeldChores(tmp_path)
    running = service(workers=1, environment={**QUIET, **chores.environment}, command=chores.command)
    running.post("/api/events", [{"id": str(number), "type": "t"} for number in range(100)])
    running.post("/api/backup/create")
    storage, answers = running.folder("STORAGE_DIR"), list[Reply]()
    store = running.get("/api/health").json()["store"]["pid"]
    asking = threading.Thread(target=lambda: answers.append(running.post("/api/backup/rehearse")))

    chores.hold("compare_events")
    asking.start()
    chores.wait_for_one(running)
    assert list(storage.glob(".rehearsal-*/*"))
    chores.hold_no_more()  # the next store rehearses at once
    os.kill(store, signal.SIGKILL)
    chores.go_on(running)
    asking.join(60)

    assert [answer.json()["rehearsal"]["ok"] for answer in answers] == [True]
    assert list(storage.glob(".rehearsal-*")) == []
    assert len(running.get("/api/backup/rehearsals").json()["rehearsals"]) == 1
    assert running.get("/api/health").json()["status"] == "ok"


def test_the_command_rehearses_here_and_from_a_copy(
    service: Callable[..., Service], flask: Command, tmp_path: Path
) -> None:
    running = service(workers=1, environment=QUIET)
    running.post("/api/events", [{"id": str(number), "type": "t"} for number in range(4)])
    name = running.post("/api/backup/create").json()["name"]

    here = flask("backup", "rehearse", "--json")
    copy = shutil.copytree(running.folder("BACKUP_DIR"), tmp_path / "usb" / "backups")
    archive = copy / name
    there = flask("backup", "rehearse", "--from", str(copy), STORAGE_DIR=str(tmp_path / "other"))
    archive.write_bytes(archive.read_bytes()[:-1])
    damaged = flask("backup", "rehearse", name, "--from", str(copy), STORAGE_DIR=str(tmp_path / "other"))

    assert here.returncode == 0, here.stderr
    assert json.loads(here.stdout)["rehearsal"]["compared"] == 4
    assert there.returncode == 0, there.stderr
    assert "4 events" in there.stdout
    assert "back in" in there.stdout
    assert damaged.returncode == 5, damaged.stdout
    assert "HINT" in damaged.stdout
    assert flask("backup", "rehearse", "--from", str(tmp_path / "missing"), "--json").returncode == 5

"""kill -9 at any instant: the audit's chain verifies, and has each deed that was answered, with its result."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventvault.audit.lines import AuditLine
from eventvault.audit.reading import unfinished
from eventvault.errors import EventVaultError
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.ports.store import Store
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.crash.test_kill import seeded
from tests.crash.test_land_once import CATALOGUE, client_killed, killed_in_between
from tests.eventvault.audit.audits import Audit
from tests.restoring import drafts
from tests.service import PROJECT
from tests.stores import running_client

ROUNDS = [pytest.param(6, id="short"), pytest.param(120, id="long", marks=pytest.mark.soak)]
KILLS = [pytest.param(2, id="short"), pytest.param(40, id="long", marks=pytest.mark.soak)]
_fixtures = (client_killed, seeded)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_no_entry_that_was_written_is_lost(tmp_path: Path, seeded: random.Random, rounds: int) -> None:
    audit = Audit(tmp_path)
    written: list[int] = []
    for number in range(rounds):
        if number % 3 == 1:  # its disk is away
            audit.backups.rename(tmp_path / "away")
        command = [sys.executable, "-m", "tests.crash.audit_writer", str(tmp_path), str(number * 10_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT, text=True) as process:
            assert process.stdout is not None
            written += [int(process.stdout.readline()) for _ in range(seeded.randrange(1, 40))]
            time.sleep(seeded.uniform(0, 0.01))
            process.kill()
            written += [int(line) for line in process.stdout if line.endswith("\n")]
        if number % 3 == 1:
            (tmp_path / "away").rename(audit.backups)
        assert audit.verify().bad is None
    command = [sys.executable, "-m", "tests.crash.audit_writer", str(tmp_path), "90000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    there = [int(line.operation, 16) for line in audit.lines() if line.action == "pin"]
    assert set(written) <= set(there)
    assert len(there) == len(set(there))
    assert audit.verify().bad is None


def lines_of(store: Store) -> list[AuditLine]:
    found: list[AuditLine] = []
    while page := store.read_audit(after=found[-1].line if found else 0, limit=1000).lines:
        found += page
    return found


@pytest.mark.parametrize("kills", KILLS)
def test_each_deed_that_was_answered_is_there_though_stores_are_killed(
    settings: Settings, tmp_path: Path, seeded: random.Random, kills: int
) -> None:
    answered: list[tuple[str, str]] = []
    is_over = threading.Event()

    def do_deeds(client: StoreClient) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            with suppress(EventVaultError):  # such as OutcomeUnknown
                client.append(drafts(1, f"deed-{number}"))
                name = client.create_backup(f"label {number}").backup.name
                answered.append(("create", f"label {number}"))
                client.pin_backup(name, pinned=True)
                answered.append(("pin", name))
                client.delete_backup(name, force=True)
                answered.append(("delete", name))

    with running_client(settings) as client:
        thread = threading.Thread(target=do_deeds, args=(client,))
        thread.start()
        try:
            for _ in range(kills):
                until = len(answered) + seeded.randrange(1, 5)
                processes.wait_until(lambda until=until: len(answered) >= until, "no deed is done", 60)
                time.sleep(seeded.uniform(0, 0.05))
                hello = client.spawner.hello()
                if hello is not None and hello.pid:  # it is 0 if the answer cannot be read
                    processes.kill([hello.pid])
        finally:
            is_over.set()
            thread.join(60)
        lines = lines_of(client)
    done = {(line.action, line.target) for line in lines if line.result == "done"}
    assert set(answered) <= done
    audit = Audit(tmp_path)
    assert audit.verify().bad is None
    with running_client(settings):  # a new start of the service
        processes.wait_until(lambda: not [e for e in unfinished(audit.folder) if e.action != "start"],
                             "a deed has no end")  # fmt: skip
    assert audit.verify().bad is None


@pytest.mark.parametrize(
    ("spot", "action"),
    [
        (f"after {CATALOGUE}.record_created", "create"),
        (f"after {CATALOGUE}.remove", "delete"),
        ("after eventvault.restore.swap.swapper:Swapper.swap", "restore"),
    ],
)
def test_a_deed_whose_store_was_killed_has_its_result_from_the_next_one(
    client_killed: Callable[[str], StoreClient], settings: Settings, tmp_path: Path, spot: str, action: str
) -> None:
    client = client_killed(spot)
    if action == "create":
        with killed_in_between(client, settings):
            client.create_backup()
    elif action == "delete":
        name = client.create_backup().backup.name
        with killed_in_between(client, settings):
            client.delete_backup(name, force=True)
    else:
        with killed_in_between(client, settings):
            client.restore_moment(Moment(sequence=2))
    of_deed = [line for line in lines_of(client) if line.action == action]
    assert of_deed[-1].result == "done"
    assert {line.operation for line in of_deed} == {of_deed[0].operation}
    assert [line.state for line in of_deed] in (["begun", "begun", "ended"], ["begun", "ended"])
    assert Audit(tmp_path).verify().bad is None

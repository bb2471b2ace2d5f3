"""Each kind of operation is begun without waiting, watched, cancelled, and killed with its store, while clients post.

Afterwards the list and the disk tell the truth, nothing is left over, and no acknowledged event is missing.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders
from tests import processes
from tests.crash.load import Load, exported
from tests.crash.test_kill import the_store
from tests.filled import fill
from tests.schedule import series_seed
from tests.service import Service

MEGABYTES = 8
SURPLUS = 3
UPLOADED = "theirs.tar.gz"
UNFINISHED = ("queued", "running")
POINTS = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]


@dataclass
class Site:
    """A service with a large registry, a backup of it, and clients that post to it."""

    service: Service
    backup: str
    archive: bytes
    sequence: int
    load: Load
    last: dict[str, float] = field(default_factory=dict)
    """Kind → how long the newest one took to its end, in seconds."""

    def get(self, path: str) -> Any:
        """Ask again while a store takes over."""
        answers = []

        def answered() -> bool:
            answers[:] = [self.service.get(path)]
            return answers[0].status != 503

        processes.wait_until(answered, f"{path} is answered 503", 60)
        assert answers[0].status == 200, answers[0].body
        return answers[0].json()

    def begin(self, kind: str) -> str:
        """Returns the id of the operation."""
        path, body = BEGIN[kind](self)
        answer = self.service.post(f"{path}{'&' if '?' in path else '?'}async=true", body)
        assert answer.status == 202, answer.body
        operation: str = answer.json()["operation"]["id"]
        return operation

    def operation(self, operation_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/operations/{operation_id}")["operation"]
        return found

    def watched_to_its_end(self, operation_id: str) -> dict[str, Any]:
        """Its progress never falls, but for a new store that begins anew."""
        stores, progress = set(self.service.stores()), 0.0
        found: list[dict[str, Any]] = []

        def has_ended() -> bool:
            nonlocal stores, progress
            found[:] = [self.operation(operation_id)]
            if found[0]["progress"] < progress and found[0]["state"] in UNFINISHED:
                present = set(self.service.stores())
                assert not stores & present, f"the progress falls from {progress} to {found[0]['progress']}"
                stores = present
            progress = found[0]["progress"]
            return found[0]["state"] not in UNFINISHED

        processes.wait_until(has_ended, "it does not end", 90)
        return found[0]

    def change(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.service.request(method, path, body)
        assert answer.status in (200, 201), answer.body
        return answer.json()

    def make_surplus(self) -> None:
        """Make archives that a prune removes: rotation must not take them first."""
        made = [self._pinned_backup() for _ in range(SURPLUS)]
        for name in made:
            self.change("DELETE", f"/api/backup/{name}/pin")

    def _pinned_backup(self) -> str:
        name: str = self.change("POST", "/api/backup/create", {"label": "surplus"})["name"]
        self.change("PUT", f"/api/backup/{name}/pin")
        return name

    def leave_the_backup_beyond_a_fork(self) -> None:
        """Have a copy of it build the moment, as no open or previous database has its last events."""
        self.change("POST", "/api/backup/restore", {"sequence": self.sequence - 10})
        listed = self.get("/api/backup/list")["backups"]
        its = next(backup["generation"] for backup in listed if backup["name"] == self.backup)
        previous = self.service.folder("STORAGE_DIR") / f"{data_folders.PREVIOUS_PREFIX}{its}"
        shutil.rmtree(previous, ignore_errors=True)

    def restore_everything(self) -> None:
        """Return to a registry with all that the next operation needs."""
        answer = self.service.post("/api/backup/restore", {"backupName": self.backup})
        assert answer.status == 200, answer.body


BEGIN: dict[str, Callable[[Site], tuple[str, Any]]] = {
    "create": lambda site: ("/api/backup/create", {"label": "begun"}),
    "verify": lambda site: (f"/api/backup/{site.backup}/verify?records=true", None),
    "restore": lambda site: ("/api/backup/restore", {"backupName": site.backup}),
    "moment": lambda site: ("/api/backup/restore", {"sequence": site.sequence - 10}),
    "undo": lambda site: ("/api/backup/undo", None),
    "copy": lambda site: ("/api/backup/restore", {"backupName": site.backup, "into": "present"}),
    "rehearse": lambda site: (f"/api/backup/{site.backup}/rehearse", None),
    "prune": lambda _site: ("/api/backup/prune", None),
    "export": lambda site: ("/api/events/export", {"filter": {"toSequence": site.sequence}}),
    "upload": lambda site: (f"/api/backup/upload?name={UPLOADED}", site.archive),
}


@pytest.fixture(scope="module")
def site(module_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    environment = {"MAX_BACKUPS": "1", "AUTO_BACKUP_ENABLED": "false", "KEEP_UNDO": "2"}
    folder = tmp_path_factory.mktemp("filled")
    database = folder / "storage" / data_folders.DATABASE
    fill(database, MEGABYTES * 10**6)
    folders = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    environment |= {name: str(folder / value) for name, value in folders.items()}
    service = module_service(environment=environment)
    made = service.post("/api/backup/create", {"label": "base"}).json()
    writers = Load(service.port, writers=2, name="during", pause=0.02)
    writers.start()
    try:
        writers.advance()
        archive = Path(made["backupPath"]).read_bytes()
        site = Site(service, made["name"], archive, made["sequence"], writers)
        site.change("PUT", f"/api/backup/{site.backup}/pin")
        site.restore_everything()  # so that there is something to undo
        yield site
    finally:
        writers.stop()
    assert not writers.bad, writers.bad


@pytest.fixture
def seeded() -> random.Random:
    return random.Random(series_seed())


def leftovers(service: Service) -> list[str]:
    """What is in none of the folders when nothing runs."""
    prefixes = tuple(set(data_folders.STORAGE_TEMPORARY_PREFIXES) - {data_folders.PAST_PREFIX})
    storage = [path.name for path in service.folder("STORAGE_DIR").iterdir() if path.name.startswith(prefixes)]
    backups = [path.name for path in service.folder("BACKUP_DIR").iterdir() if path.name.endswith(".tmp")]
    return storage + backups


def begin_with(site: Site, kind: str) -> tuple[set[str], str]:
    """Make what this kind of operation needs. Returns the archives and the generation before it."""
    if kind == "prune":
        site.make_surplus()
    if kind == "copy":
        site.leave_the_backup_beyond_a_fork()
    return names(site), generation(site)


def names(site: Site) -> set[str]:
    return {backup["name"] for backup in site.get("/api/backup/list")["backups"]}


def generation(site: Site) -> str:
    found: str = site.get("/api/health")["store"]["generation"]
    return found


def recorded_ids(service: Service) -> set[str]:
    """The events of the present, and those that the journal or an archive has of any generation."""
    found = {event["id"] for event in exported(service.port)}
    for segment in (service.folder("BACKUP_DIR") / data_folders.JOURNAL).rglob("*.gz"):
        with suppress(FileNotFoundError), gzip.open(segment) as lines:  # it was merged into another one
            found |= {event["id"] for event in map(json.loads, lines) if "id" in event}
    for backup in service.get("/api/backup/list").json()["backups"]:  # of it, the journal needs no segment
        copied = service.post("/api/backup/restore", {"backupName": backup["name"], "into": "export"}, timeout=60)
        found |= {json.loads(line)["id"] for line in copied.body.splitlines()} if copied.status == 200 else set()
    return found


def check_truth(site: Site, ended: dict[str, Any], before: tuple[set[str], str]) -> None:
    """What the list says of it is what there is."""
    backups, generation_before = before
    kind, state = ended["kind"], ended["state"]
    present = names(site)
    new = present - backups
    if kind == "prune":
        removed = set(ended["result"]["removed"]) if state == "succeeded" else set()
        assert backups - present == removed
        assert bool(removed) == (state == "succeeded")
    expected: set[str] = set()
    if state == "succeeded" and kind in ("create", "upload"):
        result = ended["result"]
        expected = {result["name"] if kind == "create" else result["backup"]["name"]}
    assert new == expected
    assert (generation(site) != generation_before) == (state == "succeeded" and kind in ("restore", "undo"))
    assert (ended["result"] is None) == (state != "succeeded")
    assert (ended["error"] is None) == (state == "succeeded")
    processes.wait_until(lambda: not leftovers(site.service), f"left over: {leftovers(site.service)}")


def put_back(site: Site, kind: str) -> None:
    if UPLOADED in names(site):
        assert site.service.request("DELETE", f"/api/backup/{UPLOADED}?force=true").status == 200
    if kind == "undo" and not site.get("/api/backup/undo")["undo"]:
        site.restore_everything()
    if site.get("/api/health")["store"]["lastSequence"] < site.sequence:
        site.restore_everything()


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("kind", BEGIN)
def test_an_operation_that_is_cancelled_at_any_point_leaves_nothing(
    site: Site, kind: str, points: int, seeded: random.Random
) -> None:
    run_to_the_end(site, kind)
    for _ in range(points):
        before = begin_with(site, kind)
        operation_id = site.begin(kind)
        time.sleep(seeded.uniform(0, site.last[kind]))
        answer = site.service.request("DELETE", f"/api/operations/{operation_id}")
        assert answer.status in (202, 409), answer.body
        ended = site.watched_to_its_end(operation_id)
        if answer.status == 202:
            assert ended["state"] == "cancelled", ended
        check_truth(site, ended, before)
        put_back(site, kind)
    site.load.advance()


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("kind", BEGIN)
def test_an_operation_whose_store_is_killed_at_any_point_is_carried_on_or_interrupted(
    site: Site, kind: str, points: int, seeded: random.Random
) -> None:
    run_to_the_end(site, kind)
    for _ in range(points):
        before = begin_with(site, kind)
        operation_id = site.begin(kind)
        time.sleep(seeded.uniform(0, site.last[kind]))
        os.kill(the_store(site.service), signal.SIGKILL)
        ended = site.watched_to_its_end(operation_id)
        assert ended["state"] in (("succeeded", "interrupted") if kind == "upload" else ("succeeded",)), ended
        check_truth(site, ended, before)
        put_back(site, kind)
    site.load.advance()


def run_to_the_end(site: Site, kind: str) -> None:
    """Once, to learn how long it takes."""
    if kind in site.last:
        return
    before = begin_with(site, kind)
    began = time.monotonic()
    ended = site.watched_to_its_end(site.begin(kind))
    site.last[kind] = time.monotonic() - began
    assert ended["state"] == "succeeded", ended
    check_truth(site, ended, before)
    put_back(site, kind)


def test_no_acknowledged_event_is_missing_after_all_of_it(site: Site) -> None:
    acknowledged = set(site.load.acknowledged)
    processes.wait_until(
        lambda: acknowledged <= recorded_ids(site.service), "events are in no present, journal or archive", 120
    )

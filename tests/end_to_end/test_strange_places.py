"""A lock on any file of ours, or a pipe, a device or a folder in its place, stops neither the service nor a start.

`make test` holds all locks at once, and puts strange things into all places at once; `make soak` tries each alone, and
more kinds.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from tests import processes
from tests.eventvault.test_file_locks import held_by_another_program
from tests.service import Service

STORAGE_PLACES = (
    "spawn.lock", "initialize.lock", "owner.lock", "services.json", "last_words.txt", "starting",
    "last_restore.json", "clock.json", "restore_speeds.json", "archived_tables.json", "problems.json", "operations",
    ".trusted.json", "kept.json", "cut_off", "damaged_tables", "restore_memory.json", "event_registry_db/LOG",
    "event_registry_db/LOG.old", "event_registry_db/LOCK", "store.sock", ".installation", "previous-x",
    ".restoring-x", ".checkpoint-x", ".event_registry_db.x", ".installation.json", ".installation.folder.json",
    "event_registry_db/EVENTVAULT", ".past-x", ".rehearsal-x", "rehearsals.json", "schedule_rehearsal.json",
    "schedule_interval.json", "schedule_cron.json", "notifications.json", "sessions.json", ".sessions.lock", "imports",
    "exports", "audit.json", "audit_waiting.jsonl", "tokens.lock", "token_uses", "tmp", "jobs.lock", "jobs.sock",
    "jobs_worker.json", "jobs_cut_off", ".jobs_db.creating", "jobs_db/LOG", "jobs_db/LOG.old",
    "jobs_db/LOCK", "kafka_accepted.json",
)  # fmt: skip
BACKUP_PLACES = (
    ".catalogue.json", ".shared_runs.json", ".heads.json", ".installation", "backup_2020-01-01_000000.tar.gz",
    ".installation.json", "dead-letters",
    ".upload.x.tmp", "journal/registry.json", "journal/strange", "notes.txt", ".annotations.json", ".uploaded.x",
    ".restore_memory.json", ".installation.storage.json", "audit/.audit.lock", "jobs/unfinished.jsonl.gz",
)  # fmt: skip
RESTORE_PLACES = ("dropped.tar.gz", "restore_memory.json", "restored")
WITHIN = [
    ("STORAGE_DIR", "operations/.keys.lock"), ("STORAGE_DIR", "imports/.lock"), ("BACKUP_DIR", "audit"),
    ("BACKUP_DIR", "jobs"), ("BACKUP_DIR", "audit/audit-2020-01.jsonl"),
]  # fmt: skip
"""Folders, and what lies in one that is a place itself: each is tried alone."""
DECIDING = {
    data_folders.FILLING, data_folders.INTENT, data_folders.STAGED_RESTORE, data_folders.INSTALLATION_KEY,
    data_folders.TOKENS, data_folders.TOKENS_MARK,
}  # fmt: skip
"""What decides about data or access: a start, or what needs it, says why it refuses."""
PLACES = [
    *(("STORAGE_DIR", name) for name in STORAGE_PLACES),
    *(("BACKUP_DIR", name) for name in BACKUP_PLACES),
    *(("RESTORE_DIR", name) for name in RESTORE_PLACES),
]
IN_USE = ("store.sock", "owner.lock", "event_registry_db/LOCK", "jobs.sock", "jobs.lock", "jobs_db/LOCK")
"""They are tried at the start."""
JOBS = {"JOBS_ENABLED": "true"}
SOON = 60
"""Seconds: nothing waits so long for a lock or a pipe, unless it waits for ever."""
KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "socket": lambda path: _make_socket(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "device": lambda path: _make_device(path),
}


def _make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def _make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # that of /dev/zero
    except PermissionError:
        pytest.skip("devices cannot be made here")


def put(path: Path, kind: str) -> None:
    """Put something strange in the place of a file; what was there is moved out of its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        path.rename(path.parent.parent / f"moved-{path.parent.name}-{path.name}")
    KINDS[kind](path)


def files_of(running: Service) -> Iterator[Path]:
    """Those that stay: a temporary one is gone at once."""
    for setting in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"):
        yield from (path for path in running.folder(setting).rglob("*") if path.is_file() and path.suffix != ".tmp")


def check_it_goes_on(running: Service, name: str) -> None:
    """List, health, create and post answer; a poll may meet a store that takes over."""
    assert running.post("/api/events", {"type": "a", "id": name}, timeout=SOON).status == 201
    assert running.get("/api/backup/list", timeout=SOON).status == 200
    created = running.post("/api/backup/create", {}, timeout=SOON)
    assert created.status in (200, 201), created.body
    assert running.get("/api/health", timeout=SOON).status == 200
    assert running.get("/api/health/ready", timeout=SOON).status == 200
    assert running.get("/api/jobs", timeout=SOON).status in (200, 409)


def test_locks_on_all_files_stop_neither_the_service_nor_a_start(service: Callable[..., Service]) -> None:
    running = service(workers=1, environment=JOBS)
    check_it_goes_on(running, "before")
    archive = running.post("/api/backup/create", {}).json()["name"]
    (running.folder("RESTORE_DIR") / "dropped.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    with held_by_another_program(*files_of(running)):
        check_it_goes_on(running, "locked")
        refused = running.post(f"/api/backup/{archive}/verify", timeout=SOON)
        assert (refused.status, refused.json()["code"]) == (503, "archive_unreadable")
        assert "holds a lock on it" in refused.json()["error"]
        protected = running.request("DELETE", f"/api/backup/{archive}", timeout=SOON)
        assert (protected.status, protected.json()["code"]) == (409, "backup_protected")
        running.stop()
        again = service(workers=1, environment=JOBS)
        check_it_goes_on(again, "started while locked")
        again.stop()
    last = service(workers=1)
    for name in ("before", "locked", "started while locked"):
        assert last.get(f"/api/events/{name.replace(' ', '%20')}").status == 200


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in ("pipe", "folder") else pytest.mark.soak) for kind in KINDS]
)
def test_strange_things_in_all_places_stop_neither_the_service_nor_a_start(
    service: Callable[..., Service], kind: str
) -> None:
    running = service(workers=1, environment=JOBS)
    check_it_goes_on(running, "before")
    for setting, name in PLACES:
        if name not in IN_USE:
            put(running.folder(setting) / name, kind)
    check_it_goes_on(running, "among them")
    running.stop()
    for setting, name in PLACES:
        if not (running.folder(setting) / name).exists():
            put(running.folder(setting) / name, kind)
    again = service(workers=1, environment=JOBS)
    check_it_goes_on(again, "started among them")
    assert again.get("/api/events/before").status == 200


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("setting", "name"), [*PLACES, *WITHIN])
def test_a_strange_thing_in_one_place_stops_neither_the_service_nor_a_start(
    service: Callable[..., Service], setting: str, name: str, kind: str
) -> None:
    running = service(workers=1, environment=JOBS)
    check_it_goes_on(running, "before")
    running.stop()
    put(running.folder(setting) / name, kind)
    again = service(workers=1, environment=JOBS)
    check_it_goes_on(again, "started with it")
    assert again.get("/api/events/before").status == 200


def test_each_file_and_folder_of_ours_is_among_the_places() -> None:
    tried = {part for _, name in [*PLACES, *WITHIN] for part in name.split("/")}
    names = {value for name, value in vars(data_folders).items() if name.isupper() and isinstance(value, str)}
    parts = {value for name, value in vars(data_folders).items() if name.endswith(("_PREFIX", "_SUFFIX"))}
    assert names - parts - tried - DECIDING == set()


@pytest.mark.soak
@pytest.mark.parametrize("name", ["owner.lock", "spawn.lock", "initialize.lock", "store.sock"])
def test_a_lock_on_one_file_stops_no_take_over(service: Callable[..., Service], name: str) -> None:
    running = service(workers=1)
    check_it_goes_on(running, "before")
    (store,) = running.stores()
    with held_by_another_program(*[path for path in [running.folder("STORAGE_DIR") / name] if path.is_file()]):
        processes.kill([store])
        processes.wait_until(lambda: store not in running.stores() and running.stores(), "no store takes over", 60)
        running.wait_until_ready()
        check_it_goes_on(running, "after")

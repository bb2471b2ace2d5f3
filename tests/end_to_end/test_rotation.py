"""Rotation to MAX_BACKUPS: what is counted, what goes, and what never does."""

from __future__ import annotations

import http.client
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.archive.locks import shared_lock
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, make_archive, make_foreign_archive
from tests.service import Service
from tests.stores import running_service

KEPT = 2


@pytest.fixture
def service_of_two(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """A store that keeps two backups, with one event."""
    with running_service(settings_with({"MAX_BACKUPS": str(KEPT)})) as service:
        service.append(drafts(1))
        yield service


def back_up(service: StoreService, *labels: str) -> list[str]:
    return [service.create_backup(label).backup.name for label in labels]


def listed(service: StoreService) -> set[str]:
    return {entry.name for entry in service.list_backups()}


def test_the_oldest_go(service_of_two: StoreService) -> None:
    made = back_up(service_of_two, "a", "b", "c", "d")

    assert listed(service_of_two) == set(made[-KEPT:])


def test_only_what_was_made_here_is_counted_and_removed(service_of_two: StoreService, tmp_path: Path) -> None:
    folder = service_of_two.settings.backup_dir
    others = {"backup_2020-01-01_000000.tar.gz", "backup_2020-01-02_000000.tar.gz", "uploaded.tar.gz"}
    make_archive(folder / "backup_2020-01-01_000000.tar.gz", created="2020-01-01T00:00:00.000Z")
    make_foreign_archive(folder / "backup_2020-01-02_000000.tar.gz")
    (first,) = back_up(service_of_two, "a")
    shutil.copy(folder / first, folder / ".upload.1.tmp")
    service_of_two.adopt_upload(str(folder / ".upload.1.tmp"), "uploaded.tar.gz")
    others.add("copy-of-ours.tar.gz")
    shutil.copy(folder / first, folder / "copy-of-ours.tar.gz")

    made = back_up(service_of_two, "b", "c")

    assert listed(service_of_two) == others | set(made)


def test_a_pinned_one_stays_until_it_is_not(service_of_two: StoreService) -> None:
    (pinned,) = back_up(service_of_two, "a")
    service_of_two.pin_backup(pinned, pinned=True)
    made = back_up(service_of_two, "b", "c", "d")
    assert pinned in listed(service_of_two)
    service_of_two.pin_backup(pinned, pinned=False)

    made += back_up(service_of_two, "e")

    assert listed(service_of_two) == set(made[-KEPT:])


def test_one_that_is_being_read_stays_until_the_next_time(service_of_two: StoreService) -> None:
    (first,) = back_up(service_of_two, "a")
    with shared_lock(service_of_two.settings.backup_dir / first):
        back_up(service_of_two, "b", "c")
        assert first in listed(service_of_two)

    back_up(service_of_two, "d")

    assert first not in listed(service_of_two)


def test_the_last_good_one_stays_although_newer_ones_are_damaged(service_of_two: StoreService) -> None:
    folder = service_of_two.settings.backup_dir
    good, *damaged = back_up(service_of_two, "a", "b")
    for name in damaged:
        flip(folder / name, -1)
        service_of_two.catalogue.record_problem(name, "a flipped bit")

    service_of_two.remover.rotate()

    assert good in listed(service_of_two)


def test_a_slow_download_keeps_its_archive(service: Callable[..., Service]) -> None:
    running = service(workers=1, environment={"MAX_BACKUPS": "1"})
    for _ in range(8):  # more than the socket's buffers take, compressed
        events = [{"type": "t", "data": secrets.token_hex(10_000)} for _ in range(100)]
        assert running.post("/api/events", events).status == 201
    first = running.post("/api/backup/create", {"label": "first"}).json()
    whole = Path(first["backupPath"]).read_bytes()
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection:
        connection.request("GET", f"/api/backup/{first['name']}/download")
        answer = connection.getresponse()
        held = answer.read(1)

        running.post("/api/backup/create", {"label": "second"})
        assert first["name"] in names_of(running)
        received = held + answer.read()
    assert received == whole

    processes.wait_until(lambda: is_rotated(running, first["name"]), "it stays for good")


def names_of(running: Service) -> list[str]:
    return [backup["name"] for backup in running.get("/api/backup/list").json()["backups"]]


def is_rotated(running: Service, name: str) -> bool:
    """The server closes the file some time after its last byte was read here; the next backup then rotates it."""
    running.post("/api/backup/create")
    return name not in names_of(running)

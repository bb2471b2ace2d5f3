"""A full disk: 507, nothing half-written is left, live data is fine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.errors import NoSpace
from eventvault.settings import Settings
from tests.mounts import tiny_disk
from tests.restoring import drafts, leftovers, make_archive, prefixes
from tests.service import Service
from tests.stores import running_service

pytestmark = pytest.mark.root


@pytest.fixture
def tiny_backups(settings_environment: dict[str, str]) -> Iterator[Path]:
    with tiny_disk(Path(settings_environment["BACKUP_DIR"]), 1) as folder:
        yield folder


@pytest.fixture
def tiny_storage(settings_environment: dict[str, str]) -> Iterator[Path]:
    with tiny_disk(Path(settings_environment["STORAGE_DIR"]), 8) as folder:
        yield folder


def random_events(count: int) -> list[dict[str, str]]:
    return [{"type": "t", "data": secrets.token_hex(10_000)} for _ in range(count)]


def test_a_backup_that_does_not_fit_is_answered_507_and_leaves_nothing(
    tiny_backups: Path, service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1)
    assert running.post("/api/events", {"type": "t"}).status == 201
    small = running.post("/api/backup/create", {"label": "small"})
    assert small.status == 200
    for _ in range(3):
        assert running.post("/api/events", random_events(100)).status == 201

    reply = running.post("/api/backup/create", {"label": "large"})

    assert (reply.status, reply.json()["code"]) == (507, "no_space")
    assert reply.json()["hint"]
    assert not leftovers(tiny_backups, Path(settings_environment["STORAGE_DIR"]))
    assert [path.name for path in tiny_backups.glob("*.tar.gz")] == [small.json()["name"]]
    assert running.post("/api/events", {"type": "t"}).status == 201
    assert running.get("/api/health").json()["store"]["events"] == 302
    assert [backup["name"] for backup in running.get("/api/backup/list").json()["backups"]] == [small.json()["name"]]


def test_an_upload_that_does_not_fit_is_answered_507_and_leaves_nothing(
    tiny_backups: Path, service: Callable[..., Service]
) -> None:
    running = service(workers=1)

    reply = running.post("/api/backup/upload?name=a.tar.gz", secrets.token_bytes(3 * 2**20))

    assert (reply.status, reply.json()["code"]) == (507, "no_space")
    assert not leftovers(tiny_backups)
    assert running.post("/api/events", {"type": "t"}).status == 201


def test_a_backup_disk_that_is_full_when_the_service_starts_keeps_nobody_from_serving(
    tiny_backups: Path, settings: Settings
) -> None:
    filler = tiny_backups / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(2 * 2**20))

    with running_service(settings) as service:
        assert service.append(drafts(1)).last_sequence == 1
        with pytest.raises(NoSpace):
            service.create_backup()
        filler.unlink()
        assert service.create_backup().backup.events == 1


def test_a_backup_without_room_for_its_checkpoint_leaves_nothing(tiny_storage: Path, settings: Settings) -> None:
    with running_service(settings) as service:
        for _ in range(20):
            service.append(drafts(10, secrets.token_hex(4), data=secrets.token_hex(5_000)))
        filler = tiny_storage / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(8 * 2**20))
        with pytest.raises(NoSpace):
            service.create_backup()
        assert service.list_backups() == []
        assert not leftovers(tiny_storage, settings.backup_dir)
        filler.unlink()
        assert service.append(drafts(1, "after")).last_sequence == 201
        assert service.create_backup().backup.events == 201


def test_a_restore_that_does_not_fit_leaves_the_live_data(tiny_storage: Path, settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "large.tar.gz", events=1000, data=secrets.token_hex(10_000))
        with pytest.raises(NoSpace):
            service.restore("large.tar.gz")
        assert prefixes(service) == {"live": 2}
        assert service.append(drafts(1, "after")).last_sequence == 3
        assert not leftovers(tiny_storage)

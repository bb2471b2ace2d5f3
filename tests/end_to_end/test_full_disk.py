"""A full disk: 507, nothing half-written is left, live data is fine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventvault.database.bus import EventBus
from eventvault.database.values import ScanQuery
from eventvault.database.view import DatabaseView
from eventvault.errors import DiskFailed, NoSpace
from eventvault.settings import Settings
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.mounts import fill_bytes, fill_inodes, make_writable, read_only, small_ext4, tiny_disk
from tests.restoring import drafts, leftovers, make_archive, prefixes
from tests.service import Reply, Service
from tests.stores import STORE_COMMAND, running_service, wait_until_gone

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


def free(folder: Path) -> None:
    for filler in folder.glob("filler*"):
        filler.unlink()


READS = ("/api/events?limit=1", "/api/events/first-1", "/api/events/export", "/api/backup/list", "/api/backup/timeline")


def check_reads(running: Service, events: int) -> None:
    for path in READS:
        assert running.get(path).status == 200, path
    assert len(running.get("/api/events/export").body.splitlines()) == events
    assert running.get("/api/health/ready").status == 200
    health = running.get("/api/health").json()
    assert (health["status"], health["store"]["state"], health["store"]["events"]) == ("degraded", "read_only", events)
    assert "no_space" in [problem["code"] for problem in health["problems"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fill", "inodes"), [pytest.param(fill_bytes, 0, id="bytes"), pytest.param(fill_inodes, 60, id="inodes")]
)
def test_reads_go_on_while_the_disk_is_full_and_after_each_kind_of_start(
    settings_environment: dict[str, str],
    service: Callable[..., Service],
    fill: Callable[[Path], None],
    inodes: int,
) -> None:
    with tiny_disk(Path(settings_environment["STORAGE_DIR"]), 128, inodes=inodes) as storage:
        running = service(workers=1)
        assert running.post("/api/events", [{"type": "t", "id": f"first-{n}"} for n in range(20)]).status == 201
        acknowledged = 20
        fill(storage)
        while (reply := running.post("/api/events", random_events(100))).status == 201:
            acknowledged += 100  # LevelDB needs a new file at some time
        assert (reply.status, reply.json()["code"]) == (507, "no_space")
        check_reads(running, acknowledged)
        reply = running.post("/api/backup/create", {})
        assert (reply.status, reply.json()["code"]) == (507, "no_space")

        (store,) = running.stores()
        os.kill(store, signal.SIGKILL)  # its socket stays, and takes an inode
        fill(storage)
        processes.wait_until(lambda: running.stores() not in ([], [store]), "no store takes over")
        check_reads(running, acknowledged)
        running.stop()
        fill(storage)  # what the stop has freed too
        running = service(workers=1)
        check_reads(running, acknowledged)

        free(storage)
        processes.wait_until(
            lambda: running.post("/api/events", {"type": "t", "id": "freed"}).status in (200, 201), "it stays full"
        )
        health = running.get("/api/health").json()
        assert (health["status"], health["store"]["state"]) == ("ok", "serving")
        assert len(running.get("/api/events/export").body.splitlines()) == acknowledged + 1
        running.stop()


def post_until_refused(running: Service, acknowledged: list[str]) -> Reply:
    """Post until the disk takes no more; returns the refusal."""
    while True:
        name = f"more-{len(acknowledged)}"
        reply = running.post("/api/events", {"type": "t", "id": name, "data": secrets.token_hex(2_000)})
        if reply.status != 201:
            return reply
        acknowledged.append(name)


def check_refused(running: Service, refused: Reply, status: int, code: str, acknowledged: list[str]) -> None:
    assert (refused.status, refused.json()["code"]) == (status, code)
    reply = running.post("/api/backup/create", {})
    assert (reply.status, reply.json()["code"]) == (status, code), reply.json()
    for path in READS:
        assert running.get(path).status == 200, path
    assert exported(running) == acknowledged
    health = running.get("/api/health").json()
    assert (health["status"], health["store"]["state"]) == ("degraded", "read_only")
    assert code in [problem["code"] for problem in health["problems"]]


def exported(running: Service) -> list[str]:
    return [json.loads(line)["id"] for line in running.get("/api/events/export").body.splitlines()]


def check_resumes(running: Service, acknowledged: list[str]) -> None:
    """The promise is 2 s; `make bench-full-disk` measures it, as a test may run on a busy machine."""
    name = f"freed-{len(acknowledged)}"
    processes.wait_until(
        lambda: running.post("/api/events", {"type": "t", "id": name}).status in (200, 201), "it does not resume"
    )
    acknowledged.append(name)
    assert running.post("/api/backup/create", {}).status == 200


@pytest.mark.slow
def test_nothing_is_lost_on_a_disk_that_is_full_in_bytes_then_in_inodes_then_read_only(
    settings_environment: dict[str, str], service: Callable[..., Service]
) -> None:
    storage = Path(settings_environment["STORAGE_DIR"])
    with small_ext4(storage, 64, inodes=256):
        running = service(workers=1)
        acknowledged = [f"first-{n}" for n in range(20)]
        assert running.post("/api/events", [{"type": "t", "id": name} for name in acknowledged]).status == 201
        for fill in (fill_bytes, fill_inodes):
            fill(storage)
            if fill is fill_inodes:  # LevelDB needs a new file when it opens the database
                (store,) = running.stores()
                os.kill(store, signal.SIGKILL)
                processes.wait_until(lambda: running.stores() not in ([], [store]), "no store takes over")  # noqa: B023
                fill(storage)
            check_refused(running, post_until_refused(running, acknowledged), 507, "no_space", acknowledged)
            free(storage)
            check_resumes(running, acknowledged)
        running.stop()
        with read_only(storage):
            running = service(workers=1)
            check_refused(running, running.post("/api/events", {"type": "t"}), 503, "disk_failed", acknowledged)
            make_writable(storage)
            check_resumes(running, acknowledged)
            assert exported(running) == acknowledged
            assert running.get("/api/health").json()["status"] == "ok"
            running.stop()


def test_a_database_on_a_read_only_disk_is_read_and_goes_on_once_it_can_be_written(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(3))
    bus = EventBus(settings.database, view=DatabaseView(settings.database))
    with read_only(settings.storage_dir):
        with pytest.raises(DiskFailed, match=r"opening .* failed: .*Read-only file system"):
            bus.init([])
        assert bus.is_read_only
        with bus.using() as registry:
            assert [sequence for sequence, _ in registry.events(0, 9)] == [1, 2, 3]
        with pytest.raises(DiskFailed), bus.writing():
            pass
    bus.init([])
    assert not bus.is_read_only
    assert bus.problem is None
    bus.close()


@contextmanager
def reading_store(settings: Settings) -> Iterator[int]:
    """A store process that cannot write, and serves reads; yields its id."""
    spawner = Spawner(settings, STORE_COMMAND, service="reader")
    client = StoreClient.over(spawner)
    try:
        client.ensure()
        processes.wait_until(lambda: client.status()["store"]["state"] == "read_only", "it does not serve reads", 60)
        assert len(client.scan(ScanQuery()).events) == 3
        yield int(client.status()["store"]["pid"])
    finally:
        hello = spawner.hello()
        client.close()
        if hello is not None:
            spawner.end("")
            wait_until_gone(hello.pid)


def test_what_reads_were_served_from_is_removed_when_the_store_ends_or_by_the_next_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def views() -> int:
        return len(list(temporary.glob("eventvault-view-*")))

    with running_service(settings) as service:
        service.append(drafts(3))
    (settings.storage_dir / "owner.lock").touch()  # as a store process leaves it
    with read_only(settings.storage_dir):
        with reading_store(settings):
            assert views() == 1
        assert views() == 0
        with reading_store(settings) as store:
            os.kill(store, signal.SIGKILL)
            wait_until_gone(store)
    assert views() == 1
    with running_service(settings) as service:
        assert service.state == "serving"
        assert views() == 0

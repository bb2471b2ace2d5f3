"""The states of a service: each is brought about on a copy of the same installation, with a store process in it.

The application runs in the test process, as in a gunicorn worker; it reaches the store over the socket.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app import create_app
from eventvault import data_folders
from eventvault.database.opening import open_checked
from eventvault.database.registry import AppendBatch, EventRegistry
from eventvault.errors import EventVaultError
from eventvault.events.event import draft
from eventvault.jobs import wire as jobs_wire
from eventvault.jobs.client import JobsClient
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import JobRequest, JobSchedule, JobType
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.jobs.messages import SessionHello
from eventvault.rpc import frames, sockets
from eventvault.settings import Settings, load
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc import wire
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.clock_shim import SettableClock
from tests.mounts import fill_bytes, fill_inodes, read_only, tiny_disk
from tests.restoring import drafts, flip, make_archive, put_in_the_way
from tests.states.verbs import Surface
from tests.stores import (
    READY_CHORES,
    ask_again_while_the_machine_is_busy,
    collect_stores,
    folders_beneath,
    running_service,
    wait_until_gone,
)

QUIET = {"AUTO_BACKUP_ENABLED": "false", "SCRUB_INTERVAL": "0", "MAX_BACKUPS": "50"}
JOBS = {"JOBS_ENABLED": "true", "JOBS_LOCAL_CONCURRENCY": "0"}
HELD = [sys.executable, "-m", "tests.states.held_chores", "prepare_restore", "--"]
"""A store whose restores stop before they begin."""
STUCK = [sys.executable, "-m", "tests.states.stuck_store"]
AWAY_SECONDS = 0.1
"""How long requests wait for a store that never comes."""
EVENTS = 8
TEN_DAYS = 10 * 86_400
JOB_SECONDS = 30.0 * 86_400
"""After which a job runs: there is no worker, and no job is to end."""


@dataclass
class Installation:
    """Three folders with events, two archives, a journal, a previous database and jobs, and how they came about."""

    folder: Path
    backup: str
    upload: bytes

    def copy(self, target: Path, **more: str) -> Settings:
        """Copy it; a folder that is there already, as a mount point, is filled. more: settings."""
        for name in ("storage", "backups", "restore"):
            shutil.copytree(self.folder / name, target / name, dirs_exist_ok=True)
        return settings_in(target, **more)


def settings_in(folder: Path, **more: str) -> Settings:
    return load({**folders_beneath(folder), **QUIET, **more})


def make_installation(folder: Path, label: str = "first") -> Installation:
    """label: of its first archive. Archives of the same second and label have the same name."""
    settings = settings_in(folder)
    add_jobs(settings.storage_dir)
    with running_service(settings) as service:
        service.append(drafts(EVENTS))
        backup = service.create_backup(label).backup.name
        service.append(drafts(2, "replaced"))
        service.restore(backup)
        service.create_backup("second")
        assert service.journal.flush()
    settings.restore_dir.mkdir(exist_ok=True)
    (settings.storage_dir / "owner.lock").touch()
    foreign = make_archive(folder / "elsewhere.tar.gz", "elsewhere")
    return Installation(folder, backup, foreign.read_bytes())


def add_jobs(storage: Path) -> None:
    """Leave what a dispatcher leaves that has served: a type, a job that waits, one that was cancelled, a schedule."""
    storage.mkdir(parents=True, exist_ok=True)
    transport = MemoryTransport()
    dispatcher = Dispatcher(JobsDatabase(storage / data_folders.JOBS_DATABASE), transport)
    dispatcher.open()
    dispatcher.start()
    hello = SessionHello(session="s", host="h", version="1", concurrency=0, types=[JobType(name="report")])
    transport.put([hello])
    jobs = LocalJobs(dispatcher)
    requests = [JobRequest(id=name, type="report", delay=JOB_SECONDS) for name in ("waiting", "cancelled")]
    jobs.submit(requests, "me", ["write"])
    jobs.cancel(["cancelled"])
    jobs.put_schedule(JobSchedule(name="nightly", type="report", cron="0 3 * * *"))
    dispatcher.stop()
    (storage / data_folders.JOBS_LOCK).touch()


@dataclass
class Given:
    """What a state is made of. folder: of this test."""

    installation: Installation
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def copy(self, **more: str) -> Settings:
        return self.installation.copy(self.folder, **more)


State = Callable[[Given], AbstractContextManager[Surface]]
STATES: dict[str, State] = {}
NEEDS_ROOT = {"disk full", "inodes out", "read-only storage"}


def state(name: str) -> Callable[[Callable[[Given], Iterator[Surface]]], State]:
    def enter(function: Callable[[Given], Iterator[Surface]]) -> State:
        STATES[name] = contextmanager(function)
        return STATES[name]

    return enter


@contextmanager
def served(
    given: Given, settings: Settings, command: Sequence[str] = READY_CHORES, *, patience: float = 60.0
) -> Iterator[tuple[Surface, StoreClient]]:
    """A store process, which starts with the first request, and the application in front of it."""
    spawner = Spawner(settings, command, service=f"states-{secrets.token_hex(4)}")
    client = StoreClient.over(spawner)
    client._patience = patience
    ask_again_while_the_machine_is_busy(client)
    jobs = JobsClient.over(settings.storage_dir, patience=patience) if settings.jobs_enabled else None
    app = create_app(settings, client, jobs=jobs)
    try:
        yield Surface(app, given.installation.backup, given.installation.upload), client
    finally:
        hello = spawner.hello()
        client.close()
        if jobs is not None:
            jobs.close()
        spawner.end("", kill_hung=True)
        if hello is not None:
            wait_until_gone(hello.pid)
        collect_stores(spawner.service)


def started(client: StoreClient, *states: str) -> dict[str, Any]:
    """Wait until the store is in one of these states; returns its status."""
    status: dict[str, Any] = {}

    def is_there() -> bool:
        nonlocal status
        with suppress(EventVaultError):
            status = client.status()
            return status["store"]["state"] in states
        return False

    client.ensure()
    processes.wait_until(is_there, f"the store is not {states}")
    return status


def wait_for_problem(client: StoreClient, code: str, about: str | None = None) -> None:
    def is_named() -> bool:
        problems = client.status()["problems"]
        return any(each["code"] == code and about in (None, (each["about"] or {}).get("name")) for each in problems)

    processes.wait_until(is_named, f"health does not say {code}")


def dispatcher_of(settings: Settings) -> int:
    """Return the process id of the dispatcher of jobs, once it listens."""
    processes.wait_until(
        lambda: sockets.listens(settings.storage_dir, data_folders.JOBS_SOCKET), "no dispatcher of jobs listens"
    )
    with closing(sockets.connect(settings.storage_dir, 60.0, data_folders.JOBS_SOCKET)) as connection:
        frames.send(connection, jobs_wire.request("hello"))
        return int(jobs_wire.read_reply("hello", frames.receive(connection)).pid)


def shorten_waits(given: Given) -> None:
    """Let requests and commands wait less for a store; how long they wait is not what the table is about."""
    given.monkeypatch.setattr("app.store_retry._RETRY_SECONDS", AWAY_SECONDS)
    given.monkeypatch.setattr("app.cli.problems._START_SECONDS", AWAY_SECONDS)
    given.monkeypatch.setattr("eventvault.store.rpc.client.PATIENCE_SECONDS", AWAY_SECONDS)


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and processes.parent(int(folder.name)) == parent:
                found.append(int(folder.name))
    return found


def wait_until_journaled(client: StoreClient) -> None:
    """Wait until the journal has looked at its folder, and so does nothing there any more."""
    started(client, "serving")
    processes.wait_until(lambda: client.status()["journal"]["lastSequence"] == EVENTS, "the journal does not begin")


@state("fresh")
def fresh(given: Given) -> Iterator[Surface]:
    with served(given, settings_in(given.folder)) as (surface, client):
        started(client, "serving")
        yield surface


@state("running")
def running(given: Given) -> Iterator[Surface]:
    with served(given, given.copy(**JOBS)) as (surface, client):
        started(client, "serving")
        yield surface


@state("restore staged")
def restore_staged(given: Given) -> Iterator[Surface]:
    with served(given, given.copy(**JOBS)) as (surface, client):
        client.restore(surface.backup, staged=True)
        yield surface


@state("restoring")
def restoring(given: Given) -> Iterator[Surface]:
    """A start that restores what lies in `restore/`."""
    settings = given.copy(**JOBS)
    shorten_waits(given)
    make_archive(settings.restore_dir / "dropped.tar.gz", "dropped")
    with served(given, settings, HELD) as (surface, client):
        started(client, "restoring")
        yield surface


@state("replaying")
def replaying(given: Given) -> Iterator[Surface]:
    """A restore on request, of an archive that is not proven."""
    settings = given.copy(**JOBS)
    make_archive(settings.backup_dir / "elsewhere.tar.gz", "elsewhere")

    def restore() -> None:
        with suppress(EventVaultError):
            client.restore("elsewhere.tar.gz")

    with served(given, settings, HELD) as (surface, client):
        started(client, "serving")
        request = Thread(target=restore)
        request.start()
        processes.wait_until(lambda: client.status()["jobs"]["restore"]["running"], "no restore is running")
        yield surface
        for chore in children(int(client.status()["store"]["pid"])):
            os.kill(chore, signal.SIGCONT)
        request.join(90)


@state("store away")
def store_away(given: Given) -> Iterator[Surface]:
    """No store can be started, and so no dispatcher."""
    settings = given.copy(**JOBS)
    shorten_waits(given)
    with served(given, settings, ["false"], patience=AWAY_SECONDS) as (surface, _):
        yield surface


@state("store stuck")
def store_stuck(given: Given) -> Iterator[Surface]:
    """The disk of STORAGE_DIR does not answer, and the committer makes no step."""
    with served(given, given.copy(**JOBS), STUCK) as (surface, client):
        wait_until_journaled(client)
        hanging = wire.request("append", [draft({"type": "a", "id": "stuck"}, 0)], None, b"nonce---")
        with closing(client.spawner.connect(5.0)) as connection:
            frames.send(connection, hanging)
            wait_for_problem(client, "stuck", "committer")
            yield surface


@state("clock ahead")
def clock_ahead(given: Given) -> Iterator[Surface]:
    clock = SettableClock(given.folder)
    for name, value in clock.environment.items():
        given.monkeypatch.setenv(name, value)
    with served(given, given.copy(**JOBS)) as (surface, client):
        started(client, "serving")
        clock.set_offset(TEN_DAYS)
        wait_for_problem(client, "clock_ahead")
        yield surface


def full(given: Given, fill: Callable[[Path], None], inodes: int) -> Iterator[Surface]:
    with tiny_disk(given.folder / "storage", 64, inodes=inodes) as storage:
        settings = given.copy(**JOBS)
        with served(given, settings) as (surface, client):
            store = int(started(client, "serving")["store"]["pid"])
            dispatcher = dispatcher_of(settings)
            fill(storage)
            for process in (store, dispatcher):
                os.kill(process, signal.SIGKILL)
            wait_until_gone(store)
            fill(storage)
            started(client, "read_only")
            surface.renew = lambda: fill(storage)  # a record that the store removed leaves room for another file
            yield surface


@state("disk full")
def disk_full(given: Given) -> Iterator[Surface]:
    return full(given, fill_bytes, 0)


@state("inodes out")
def inodes_out(given: Given) -> Iterator[Surface]:
    return full(given, fill_inodes, 120)


@state("read-only storage")
def read_only_storage(given: Given) -> Iterator[Surface]:
    settings = given.copy(**JOBS)
    with read_only(settings.storage_dir), served(given, settings) as (surface, client):
        started(client, "read_only")
        yield surface


@state("database damaged")
def database_damaged(given: Given) -> Iterator[Surface]:
    settings = given.copy(**JOBS)
    (manifest,) = settings.database.glob("MANIFEST-*")
    flip(manifest, 20)
    with served(given, settings) as (surface, client):
        started(client, "failed")
        yield surface


@state("no descriptors")
def no_descriptors(given: Given) -> Iterator[Surface]:
    """The store can open nothing more. It has served reads before, so LevelDB has its tables open."""
    with served(given, given.copy(**JOBS)) as (surface, client):
        wait_until_journaled(client)
        assert surface.web.get("/api/events/export").get_data()
        store = int(client.status()["store"]["pid"])
        with without_free_descriptor(store):
            processes.wait_until(
                lambda: surface.web.get("/api/backup/list").status_code == 503, "what was listed before still counts"
            )
            yield surface


@contextmanager
def without_free_descriptor(pid: int) -> Iterator[None]:
    """Lower the limit of a store to the descriptors that it uses all the time."""
    processes.wait_until(lambda: len(sockets_of(pid)) == 2, "it has more than its listener and one client")
    first_free = processes.first_free_descriptor(pid)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def sockets_of(pid: int) -> list[Path]:
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if str(each.readlink()).startswith("socket:"):
                found.append(each)
    return found


@state("backups changed")
def backups_changed(given: Given) -> Iterator[Surface]:
    """BACKUP_DIR is that of another installation."""
    settings = given.copy(**JOBS, JOURNAL_INTERVAL="3600000")  # the journal would make the folder again in between
    other = make_installation(given.folder / "other", "theirs")
    with served(given, settings) as (surface, client):
        wait_until_journaled(client)
        settings.backup_dir.rename(given.folder / "own")
        (other.folder / "backups").rename(settings.backup_dir)
        wait_for_problem(client, "backups_changed")
        yield surface


@state("backups unmounted")
def backups_unmounted(given: Given) -> Iterator[Surface]:
    """BACKUP_DIR is the empty folder beneath the disk that was mounted there."""
    settings = given.copy(**JOBS)
    with served(given, settings) as (surface, client):
        wait_until_journaled(client)
        settings.backup_dir.rename(given.folder / "disk")
        settings.backup_dir.mkdir(exist_ok=True)
        wait_for_problem(client, "backups_changed")
        yield surface


@state("rolled back")
def rolled_back(given: Given) -> Iterator[Surface]:
    """A copy of the database from before the newest events was put back, after it had gone on elsewhere."""
    settings = given.copy(**JOBS)
    shutil.rmtree(settings.database)
    with tarfile.open(settings.backup_dir / given.installation.backup) as archive:
        archive.extractall(settings.storage_dir, filter="data")
    with closing(open_checked(settings.database)) as db:
        EventRegistry(db, settings.database).append([AppendBatch(drafts(1, "elsewhere"), b"12345678")])
    with served(given, settings) as (surface, client):
        started(client, "serving")
        wait_for_problem(client, "rolled_back")
        yield surface


@state("journal behind")
def journal_behind(given: Given) -> Iterator[Surface]:
    settings = given.copy(**JOBS)
    with served(given, settings) as (surface, client):
        started(client, "serving")
        put_in_the_way(settings.backup_dir / "journal")
        client.append(drafts(1, "unwritten"))
        wait_for_problem(client, "journal_failed")
        yield surface

"""Stores for tests: the process with a client in front of it, and the service in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from eventvault import chores, progress
from eventvault.backup_manager import BackupManager
from eventvault.backups import installation_folder
from eventvault.errors import EventVaultError, StoreUnavailable
from eventvault.jobs.port import Jobs
from eventvault.settings import Settings, load
from eventvault.store.process import lifeline, spawn
from eventvault.store.rpc.client import StoreClient
from eventvault.store.service import StoreService
from tests import processes
from tests.chore_processes import ChoreServer

STORE_COMMAND = [sys.executable, "-m", "app.store"]
READY_CHORES = [sys.executable, "-m", "tests.crash.store_with_ready_chores"]
"""For tests that are not about the start of chores, each of which is a Python that loads its modules."""

LONG_INTERVAL = 60_000
"""Milliseconds between two rounds of the journal, from which on a test writes its segments itself."""


@contextmanager
def running_service(
    settings: Settings, *, service_starts: bool = True, jobs: Jobs | None = None
) -> Iterator[StoreService]:
    """A StoreService in this process, without scheduler and Kafka. It remembers nothing of an earlier one."""
    installation_folder._confirmed.clear()
    service = StoreService(settings, service_starts=service_starts, with_kafka=False, jobs=jobs, health_shared=0.0)
    service.initialize()
    _await_first_round(service)
    try:
        yield service
    finally:
        service.stop()
        service.bus.close()


def _await_first_round(service: StoreService) -> None:
    """Let the round of the journal end that begins with the service: a test with a long interval counts on no other.

    It may come late on a busy machine, and would write what the test has appended meanwhile. A disk may hang in it.
    """
    thread = service.journal._thread

    def is_over() -> bool:
        return any(each._thread == thread.ident and each.stepped is None for each in progress._all())

    if thread.is_alive() and service.settings.journal_interval >= LONG_INTERVAL:
        with suppress(TimeoutError):
            processes.wait_until(is_over, "the journal does not rest", 5)


@contextmanager
def running_client(settings: Settings, command: Sequence[str] = STORE_COMMAND) -> Iterator[StoreClient]:
    """A client of a store process that is started for it, with the lifeline that each gunicorn worker has."""
    client = BackupManager(settings, command).initialize()
    ask_again_while_the_machine_is_busy(client)
    processes.wait_until(lambda: _has_started(client), "the store is restoring", 120)
    try:
        yield client
    finally:
        stop_lifelines(client)
        hello = client.spawner.hello()
        client.close()
        client.spawner.end("")
        if hello is not None:
            wait_until_gone(hello.pid)
        spawn.reap()  # also a store that was killed and answered no hello


def ask_again_while_the_machine_is_busy(client: StoreClient) -> None:
    """A store has a second to answer `status`, too little at times: ask again while it answers at all."""
    ask = client.status

    def status() -> dict[str, Any]:
        for _ in range(20):
            try:
                return ask()
            except StoreUnavailable:
                if client.spawner.hello() is None:
                    raise
        return ask()

    client.status = status  # type: ignore[method-assign]


def _has_started(client: StoreClient) -> bool:
    with suppress(EventVaultError):  # such as a disk that fails just now
        return client.status()["store"]["state"] not in ("starting", "restoring")
    return False


def stop_lifelines(*clients: StoreClient) -> None:
    for line in [line for line in lifeline.registered if line.client in clients]:
        line.stop()
        lifeline.registered.remove(line)


def wait_until_gone(pid: int) -> None:
    from eventvault.store.process.spawn import reap

    def gone() -> bool:
        reap()
        with suppress(OSError):
            return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return True

    try:
        processes.wait_until(gone, f"the store process {pid} is still there")
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise


def collect_stores(service: str) -> None:
    """Wait for the stores that this process began for that start of the service, also those that were killed."""
    for child in [child for child in spawn._children if service in list(child.args)]:
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(60)
            raise
    spawn.reap()


def folders_beneath(parent: Path) -> dict[str, str]:
    """Environment variables that keep the three data folders beneath `parent`, and start no dispatcher of jobs."""
    folders = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    return {"JOBS_ENABLED": "false", **{name: str(parent / folder) for name, folder in folders.items()}}


def folders_of(environment: Mapping[str, str]) -> list[Path]:
    """The three data folders that these environment variables name."""
    return [Path(environment[name]) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")]


@pytest.fixture(scope="session", autouse=True)
def chore_server() -> Iterator[None]:
    """The stores in this process have their chores done by processes that need not load anything."""
    server = ChoreServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chores, "start_process", server.start_process)
        yield
    server.stop()


@pytest.fixture
def settings_environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables that keep the three data folders beneath `tmp_path`."""
    return folders_beneath(tmp_path)


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load(settings_environment)


@pytest.fixture
def settings_with(settings_environment: dict[str, str]) -> Callable[..., Settings]:
    """Settings with others than the defaults, over the same three folders."""

    def make(more: Mapping[str, str]) -> Settings:
        return load({**settings_environment, **more})

    return make


@pytest.fixture
def store_client(settings: Settings) -> Iterator[StoreClient]:
    with running_client(settings) as client:
        yield client


@pytest.fixture
def store_service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service

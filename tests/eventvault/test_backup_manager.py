"""BackupManager.initialize(): makes the folders and starts a store once, for any number of callers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from eventvault import data_folders
from eventvault.backup_manager import BackupManager
from eventvault.errors import StoreUnavailable
from eventvault.files import is_there
from eventvault.settings import Settings
from eventvault.store.process import lifeline, spawn
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.restoring import drafts, make_archive, prefixes
from tests.stores import STORE_COMMAND, running_client, stop_lifelines, wait_until_gone

pytestmark = pytest.mark.process


@pytest.fixture
def clients(settings: Settings) -> Iterator[list[StoreClient]]:
    """The clients of a test; their store is ended afterwards."""
    made: list[StoreClient] = []
    yield made
    stop_lifelines(*made)
    for client in made:
        client.close()
    hello = made[0].spawner.hello() if made else None
    if hello is not None:
        made[0].spawner.end("")
        wait_until_gone(hello.pid)


def pid_of(client: StoreClient) -> int:
    hello = client.spawner.hello()
    assert hello is not None
    return hello.pid


def test_it_makes_the_folders_and_starts_one_store(settings: Settings, clients: list[StoreClient]) -> None:
    clients.append(BackupManager(settings, STORE_COMMAND).initialize())

    assert settings.storage_dir.is_dir()
    assert settings.backup_dir.is_dir()
    assert settings.restore_dir.is_dir()
    assert pid_of(clients[0])


def test_it_is_idempotent(settings: Settings, clients: list[StoreClient]) -> None:
    manager = BackupManager(settings, STORE_COMMAND)
    clients.append(manager.initialize())
    first = pid_of(clients[0])
    clients.append(manager.initialize())

    assert pid_of(clients[1]) == first


def test_one_process_at_a_time_binds_the_folders_to_each_other(settings: Settings, clients: list[StoreClient]) -> None:
    """Two at once would give them different ids, and the service would take BACKUP_DIR for another one's."""
    settings.storage_dir.mkdir(parents=True)
    notes = [folder / data_folders.INSTALLATION_FOLDER for folder in (settings.storage_dir, settings.backup_dir)]
    other = BackupManager(settings, STORE_COMMAND)
    with FileLock(str(settings.storage_dir / data_folders.INITIALIZE_LOCK), thread_local=False):
        thread = threading.Thread(target=lambda: clients.append(other.initialize()))
        thread.start()
        thread.join(0.5)
        assert [path for path in notes if path.exists()] == []
    thread.join()
    assert all(path.exists() for path in notes)


def test_many_of_one_start_at_once_find_one_store(
    settings: Settings, clients: list[StoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTVAULT_SERVICE", "one-start")
    threads = [
        threading.Thread(target=lambda: clients.append(BackupManager(settings, STORE_COMMAND).initialize()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(clients) == 4
    assert len({pid_of(client) for client in clients}) == 1


def test_the_store_of_an_earlier_start_makes_way_and_the_new_start_restores(
    settings: Settings, clients: list[StoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTVAULT_SERVICE", "first-start")
    clients.append(BackupManager(settings, STORE_COMMAND).initialize())
    first = pid_of(clients[0])
    clients[0].append(drafts(2))
    stop_lifelines(clients[0])
    make_archive(settings.restore_dir / "a.tar.gz")
    monkeypatch.setenv("EVENTVAULT_SERVICE", "second-start")

    clients.append(BackupManager(settings, STORE_COMMAND).initialize())

    assert pid_of(clients[1]) != first
    with running_client(settings) as client:
        assert prefixes(client) == {"restored": 3}


def test_the_command_line_takes_the_store_that_is_there(settings: Settings, clients: list[StoreClient]) -> None:
    clients.append(BackupManager(settings, STORE_COMMAND).initialize())
    first = pid_of(clients[0])

    clients.append(BackupManager(settings, STORE_COMMAND, mode="command").initialize())

    assert pid_of(clients[1]) == first


def test_a_store_of_the_command_line_restores_nothing(settings: Settings, clients: list[StoreClient]) -> None:
    settings.restore_dir.mkdir(parents=True)
    archive = make_archive(settings.restore_dir / "a.tar.gz")

    clients.append(BackupManager(settings, STORE_COMMAND, mode="command").initialize())
    clients[0].append(drafts(1))

    assert prefixes(clients[0]) == {"live": 1}
    assert archive.exists()


@pytest.mark.parametrize("change", ["eventvault.__version__ = '0.0.0+other'", "wire.PROTOCOL = 5"])
def test_a_store_of_another_version_makes_way(
    settings: Settings, clients: list[StoreClient], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("EVENTVAULT_SERVICE", "one-start")
    program = f"""
import runpy
import eventvault
from eventvault.store.rpc import wire
{change}
runpy.run_module("app.store", run_name="__main__")
"""
    other = Spawner(settings, [sys.executable, "-c", program], service="one-start")
    other.ensure_started(time.monotonic() + 20)
    hello = other.hello()
    assert hello is not None

    clients.append(BackupManager(settings, STORE_COMMAND).initialize())

    assert pid_of(clients[0]) != hello.pid


def test_a_start_has_its_own_store_although_orphans_of_the_earlier_start_keep_starting_theirs(
    settings: Settings, clients: list[StoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a killed master notice its end after a moment; until then each starts a store where there is none."""
    orphans = [Spawner(settings, STORE_COMMAND, service="first-start") for _ in range(2)]
    ended = threading.Event()

    def keep_starting(orphan: Spawner) -> None:
        while not ended.is_set():
            orphan.ensure_started(time.monotonic() + 5)

    threads = [threading.Thread(target=keep_starting, args=(orphan,)) for orphan in orphans]
    orphans[0].ensure_started(time.monotonic() + 20)
    make_archive(settings.restore_dir / "a.tar.gz")
    monkeypatch.setenv("EVENTVAULT_SERVICE", "second-start")
    for thread in threads:
        thread.start()
    try:
        clients.append(BackupManager(settings, STORE_COMMAND).initialize())
        hello = clients[0].spawner.hello()
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)

    assert hello is not None
    assert hello.service == "second-start"
    processes.wait_until(lambda: clients[0].status()["status"] != "restoring", "the store is restoring", 60)
    assert prefixes(clients[0]) == {"restored": 3}


@pytest.mark.parametrize("odd", ["file", "dangling link", "loop"])
def test_a_start_that_cannot_be_announced_serves(settings: Settings, clients: list[StoreClient], odd: str) -> None:
    folder = settings.storage_dir / data_folders.STARTING
    folder.parent.mkdir(parents=True)
    if odd == "file":
        folder.write_bytes(b"")
    else:
        folder.symlink_to(folder if odd == "loop" else settings.storage_dir / "missing" / "folder")

    clients.append(BackupManager(settings, STORE_COMMAND).initialize())

    assert clients[0].append(drafts(1)).last_sequence == 1


def folder_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [folder_with_a_file, link_to_nowhere, link_to_itself])
def test_what_is_in_the_place_of_a_lock_or_the_socket_is_set_aside_and_named(
    settings: Settings, make: Callable[[Path], None]
) -> None:
    names = (data_folders.INITIALIZE_LOCK, data_folders.SPAWN_LOCK, data_folders.OWNER_LOCK, data_folders.SOCKET)
    settings.storage_dir.mkdir()
    for name in names:
        make(settings.storage_dir / name)

    with running_client(settings) as client:
        assert client.append(drafts(1)).last_sequence == 1
        named = [problem["message"] for problem in client.status()["problems"] if problem["code"] == "file_damaged"]

    assert len(named) == len(names)
    for name in names:
        assert is_there(settings.storage_dir / f"{name}.damaged")
        assert any(f"/{name} was damaged" in message for message in named)


def test_a_hung_store_of_an_earlier_start_is_killed(
    settings: Settings, clients: list[StoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Spawner(settings, STORE_COMMAND, service="first-start")
    earlier.ensure_started(time.monotonic() + 60)
    hello = earlier.hello()
    assert hello is not None
    os.kill(hello.pid, signal.SIGSTOP)

    monkeypatch.setenv("EVENTVAULT_SERVICE", "second-start")
    with monkeypatch.context() as patched:
        patched.setattr(spawn, "ANSWER_SECONDS", 2.0)
        clients.append(BackupManager(settings, STORE_COMMAND).initialize())

    wait_until_gone(hello.pid)
    clients[0].append(drafts(1))
    assert pid_of(clients[0]) != hello.pid


def test_no_store_is_started_for_a_service_whose_master_has_ended(settings: Settings) -> None:
    """Its archive in `restore/` waits for a start that is alive."""
    master = subprocess.Popen([sys.executable, "-c", ""])
    master.wait(60)
    archive = make_archive(settings.restore_dir / "a.tar.gz")
    command = [*STORE_COMMAND, "--service", "killed", "--mode", "service"]
    environment = {**os.environ, **settings.to_environment(), "EVENTVAULT_MASTER": str(master.pid)}

    ended = subprocess.run(command, env=environment, timeout=60, check=True, stderr=subprocess.PIPE)

    assert b"has ended" in ended.stderr
    assert archive.exists()
    assert not settings.database.exists()


def test_a_worker_whose_master_has_ended_waits_for_no_store(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for 20 seconds, and held the port of the service for so long."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setenv("EVENTVAULT_MASTER", str(ended.pid))
    tried = tmp_path / "tried"
    client = BackupManager(settings, [sys.executable, "-c", f"open({str(tried)!r}, 'w')"]).initialize()
    with pytest.raises(StoreUnavailable):
        client.append(drafts(1))
    stop_lifelines(client)
    client.close()
    assert not tried.exists()


def test_no_store_is_started_for_a_command_while_a_service_runs(settings: Settings, clients: list[StoreClient]) -> None:
    """It would take the place of the service's own store, without Kafka and schedule."""
    clients.append(BackupManager(settings, STORE_COMMAND).initialize())
    hello = clients[0].spawner.hello()
    assert hello is not None
    stop_lifelines(clients[0])
    os.kill(hello.pid, signal.SIGKILL)
    wait_until_gone(hello.pid)
    command = Spawner(settings, STORE_COMMAND, service="command", mode="command")
    assert command.wait_until_gone(20)  # a child of the store may hold its socket for a moment

    command.ensure_started(time.monotonic() + 20)

    assert not command.listens()
    assert "the service runs" in command.failure
    assert clients[0].append(drafts(1)).last_sequence == 1
    assert command.hello().mode == "service"  # type: ignore[union-attr]


def test_a_service_replaces_a_store_of_a_command(settings: Settings, clients: list[StoreClient]) -> None:
    """It got there first, because the start of the service could not be announced."""
    command = Spawner(settings, STORE_COMMAND, service="command", mode="command")
    command.ensure_started(time.monotonic() + 20)
    clients.append(StoreClient.over(Spawner(settings, STORE_COMMAND, service="own")))
    held = lifeline.Lifeline(clients[0])
    held.start()
    try:
        processes.wait_until(
            lambda: (hello := clients[0].spawner.hello()) is not None and hello.mode == "service",
            "the store of the command still serves",
            60,
        )
    finally:
        held.stop()


COMMAND_PROCESS = """
import sys, time
from eventvault.settings import load
from eventvault.store.process.spawn import Spawner
Spawner(load(), [sys.executable, "-c", sys.argv[1]], service="c", mode="command").ensure_started(time.monotonic() + 30)
"""


def test_a_store_of_a_command_does_not_hold_the_commands_standard_error_open(settings: Settings) -> None:
    """`eventvault … 2>&1 | cat` ends with the command. What the store wrote until then is in it."""
    store = """
import runpy, sys
print("a word of the store", file=sys.stderr, flush=True)
runpy.run_module("app.store", run_name="__main__", alter_sys=True)
"""
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND_PROCESS, store],
        env={**os.environ, **settings.to_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=True,
        text=True,
    )

    spawner = Spawner(settings, STORE_COMMAND, service="reader")
    hello = spawner.hello()
    assert hello is not None, "the pipe was open until the store had ended"
    spawner.end("")
    wait_until_gone(hello.pid)
    assert "a word of the store" in ended.stdout

"""A store that is stuck says so, ends itself or is ended, and another one takes over."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from eventvault.backup_manager import BackupManager
from eventvault.errors import EventVaultError
from eventvault.events.event import EventDraft, draft
from eventvault.settings import Settings
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.stores import running_client, stop_lifelines, wait_until_gone


def stuck_store(part: str) -> list[str]:
    return [sys.executable, "-m", "tests.crash.stuck_store", part]


def drafts(name: str) -> list[EventDraft]:
    return [draft({"type": "a", "id": name, "source": "/test"}, 0)]


def pid_of(client: StoreClient) -> int | None:
    with suppress(EventVaultError):
        return int(client.status()["store"]["pid"])
    return None


def has_stuck(client: StoreClient, about: str) -> bool:
    with suppress(EventVaultError):
        return any(
            (each["code"], each["about"]) == ("stuck", {"kind": "part", "name": about})
            for each in client.status()["problems"]
        )
    return False


def test_a_store_whose_committer_is_stuck_is_named_and_ends_and_the_next_one_waits_longer(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    log = []

    def logged(text: str) -> bool:
        log.append(capfd.readouterr().err)
        return text in "".join(log)

    with running_client(settings, stuck_store("append")) as client:
        client.append(drafts("acknowledged"))
        client._patience, over = 2.0, threading.Event()
        first = pid_of(client)

        def post() -> None:
            while not over.is_set():
                with suppress(EventVaultError):
                    client.append(drafts("stuck"))

        poster = threading.Thread(target=post, daemon=True)
        poster.start()
        processes.wait_until(lambda: has_stuck(client, "committer") or pid_of(client) != first, "health is silent")
        processes.wait_until(lambda: pid_of(client) not in (first, None), "no other store took over")
        processes.wait_until(lambda: logged("1 stores in a row ended themselves"), "the first one left no word")
        processes.wait_until(lambda: logged("2 stores in a row ended themselves"), "it was not counted")
        over.set()
        poster.join(60)
        client._patience = 60.0  # the next store takes over once this one has ended
        assert client.get("acknowledged")
    (seconds, *_) = re.findall(r"2 stores in a row ended themselves, as the \w+ made no step for (\d+) s", "".join(log))
    assert int(seconds) >= 1, "the second one did not wait longer"
    assert "in tests.crash.stuck_store.hang" not in "".join(log)
    assert "eventvault.database.commit" in "".join(log)


@pytest.mark.parametrize("part", ["committer", "journal", "check", "repair"])
def test_a_store_that_is_asked_to_end_ends_whatever_part_hangs(settings: Settings, part: str) -> None:
    with running_client(settings, stuck_store(part)) as client:
        client.append(drafts("acknowledged"))
        pid = pid_of(client)
        assert pid is not None
    wait_until_gone(pid)
    with running_client(settings, stuck_store("nowhere")) as client:
        assert client.get("acknowledged")


@pytest.mark.parametrize("state", ["listens no more", "was stopped after that"])
def test_a_start_ends_a_store_of_an_earlier_start_that_does_not_end(
    settings: Settings, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    earlier = BackupManager(settings, stuck_store("stop")).initialize()
    earlier.append(drafts("acknowledged"))
    pid = pid_of(earlier)
    assert pid is not None
    stop_lifelines(earlier)
    earlier.spawner.end("")
    processes.wait_until(lambda: not earlier.spawner.listens(), "it listens still")
    if state == "was stopped after that":
        os.kill(pid, signal.SIGSTOP)
    with running_client(settings, stuck_store("nowhere")) as client:
        assert client.get("acknowledged")
        assert pid_of(client) != pid
    wait_until_gone(pid)
    earlier.close()
    assert f"process {pid}, of an earlier start, does not end" in capfd.readouterr().err


def test_a_process_that_reuses_the_number_of_the_holder_is_not_ended(settings: Settings) -> None:
    """The lock file names this process, with another birth."""
    from eventvault.store.process import ownership

    lock = settings.storage_dir / "owner.lock"
    settings.storage_dir.mkdir(parents=True)
    lock.write_text(f"{os.getpid()} 1\n")
    with lock.open("rb") as file:
        assert not ownership._kill_holder(file.fileno())
    for nonsense in (b"", b"x", b"1", b"\xff \xff", b"999999999 1\n"):
        lock.write_bytes(nonsense)
        with lock.open("rb") as file:
            assert not ownership._kill_holder(file.fileno())
    assert Path("/proc/self").exists()

"""The worker of the service itself is started again when it ends, adopted, and ended with the dispatcher."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.dispatcher import local_worker
from app.dispatcher.local_worker import LocalWorker
from eventvault import small_files
from eventvault.settings import Settings
from tests.processes import wait_until

WAITING = (sys.executable, "-S", "-c", "import signal; signal.pause()")


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., LocalWorker]]:
    settings.storage_dir.mkdir()
    started: list[LocalWorker] = []

    def begin(service: str = "s", command: tuple[str, ...] = WAITING) -> LocalWorker:
        worker = LocalWorker(settings, service, command)
        started.append(worker)
        worker.start()
        return worker

    yield begin
    for worker in started:
        worker.stop()


def noted(settings: Settings) -> int:
    """The process id of the worker."""
    file = settings.storage_dir / "jobs_worker.json"
    wait_until(file.exists, "no worker is noted")
    return small_files.read(file, local_worker._StoredWorker).pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_one_that_dies_is_started_again(
    start: Callable[..., LocalWorker], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_BACK_OFF_SECONDS", (0.0,))
    start()
    first = noted(settings)
    os.kill(first, 9)
    wait_until(lambda: noted(settings) != first, "no other one is started")
    assert is_alive(noted(settings))


def test_one_that_cannot_start_is_not_started_all_the_time(start: Callable[..., LocalWorker]) -> None:
    worker = start(command=(sys.executable, "-S", "-c", "raise SystemExit(78)"))
    wait_until(lambda: worker.failure, "its failure is not known")
    assert worker.failure == "the local worker ended with status 78"


def test_one_that_does_not_stay_is_a_problem_of_health(
    start: Callable[..., LocalWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_BACK_OFF_SECONDS", (0.0,))
    worker = start(command=(sys.executable, "-S", "-c", "raise SystemExit(78)"))
    wait_until(worker.problems, "nothing is said")
    (problem,) = worker.problems()
    assert problem.code == "local_worker_failed"
    assert "ended with status 78" in problem.message
    assert "log" in problem.hint


@pytest.mark.slow
def test_its_thread_survives_what_nobody_foresaw(
    start: Callable[..., LocalWorker], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_BACK_OFF_SECONDS", (0.0,))
    failures = [LookupError("one"), LookupError("two")]
    begin = local_worker.start_detached

    def fail(*arguments: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return begin(*arguments, **more)

    monkeypatch.setattr(local_worker, "start_detached", fail)
    worker = start()
    assert is_alive(noted(settings))
    assert worker._unforeseen.count == 2


@pytest.mark.slow
def test_one_that_a_signal_has_stopped_is_replaced(
    start: Callable[..., LocalWorker], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "STOPPED_SECONDS", 0.4)
    start()
    first = noted(settings)
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: not is_alive(first), "it stays stopped")
    wait_until(lambda: noted(settings) != first, "no other one is started")


@pytest.mark.slow
def test_one_that_cannot_be_watched_is_ended_before_the_next_one_begins(
    start: Callable[..., LocalWorker], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_BACK_OFF_SECONDS", (0.0,))
    wait, failures = local_worker._Process.wait, [LookupError("one")]
    is_seen = threading.Event()

    def fail(process: Any, seconds: float) -> bool:
        if failures and is_seen.is_set() and seconds == local_worker._LOOK_SECONDS:
            raise failures.pop()
        return wait(process, seconds)

    monkeypatch.setattr(local_worker._Process, "wait", fail)
    start()
    first = noted(settings)
    is_seen.set()
    wait_until(lambda: noted(settings) != first, "no other one is started")
    assert not is_alive(first)
    assert is_alive(noted(settings))


@pytest.mark.slow
def test_the_next_dispatcher_of_the_service_adopts_it(
    start: Callable[..., LocalWorker], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    start()
    pid = noted(settings)
    second = start()
    wait_until(lambda: "is adopted" in caplog.text, "it is not adopted")
    assert noted(settings) == pid
    second.stop()
    wait_until(lambda: not is_alive(pid), "it does not end with the dispatcher that adopted it")


@pytest.mark.slow
def test_another_start_of_the_service_ends_it(start: Callable[..., LocalWorker], settings: Settings) -> None:
    start("earlier")
    pid = noted(settings)
    start("later")
    wait_until(lambda: not is_alive(pid), "it does not end")


def test_none_is_started_where_none_is_wanted(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with({"JOBS_LOCAL_CONCURRENCY": "0"})
    settings.storage_dir.mkdir()
    worker = LocalWorker(settings, "s", WAITING)
    worker.start()
    worker.stop()
    assert not (settings.storage_dir / "jobs_worker.json").exists()

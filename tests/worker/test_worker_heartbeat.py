"""The sign of life of a worker, and what the health check makes of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import heartbeat
from worker.heartbeat import Heartbeat, problem_of_workers


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heartbeat]:
    monkeypatch.setattr(heartbeat.tempfile, "gettempdir", lambda: str(tmp_path))
    worker = Heartbeat()
    yield worker
    worker.close()
    assert list(tmp_path.glob("eventvault-worker-*")) == []


def test_a_worker_that_goes_on_is_well_once_kafka_answers(worker: Heartbeat, tmp_path: Path) -> None:
    worker.beat(kafka_answers=False)
    assert "no Kafka broker answers" in str(problem_of_workers(tmp_path))
    worker.beat(kafka_answers=True)
    assert problem_of_workers(tmp_path) is None


def test_a_worker_that_makes_no_progress_is_not_well(
    worker: Heartbeat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.beat(kafka_answers=True)
    later = time.monotonic() + heartbeat.STALE_SECONDS + 5
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: later)
    assert "made no progress for 3" in str(problem_of_workers(tmp_path))
    worker.beat(kafka_answers=True)
    assert problem_of_workers(tmp_path) is None


def test_files_of_others_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "eventvault-worker-text").write_text("")
    (tmp_path / f"eventvault-worker-{os.getppid()}").write_text("nonsense")
    (tmp_path / "eventvault-worker-1").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / f"eventvault-worker-{os.getpid()}")
    assert problem_of_workers(tmp_path) == "no worker runs here"


def test_without_a_temporary_folder_a_worker_works_but_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat.tempfile, "gettempdir", lambda: str(tmp_path / "missing"))
    worker = Heartbeat()
    worker.beat(kafka_answers=True)
    worker.close()

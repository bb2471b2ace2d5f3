"""`jobs_db` on a real LevelDB: its keys, a start with many jobs, and writes that fail."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eventvault.errors import DatabaseTooNew, JobsUnavailable
from eventvault.jobs import keys
from eventvault.jobs.database import JobsDatabase, StoredTicks
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import JobType
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.jobs.messages import Done, Run, SessionHello
from tests.eventvault.jobs.rig import request


@pytest.fixture
def database(tmp_path: Path) -> JobsDatabase:
    database = JobsDatabase(tmp_path / "jobs_db")
    database.open()
    yield database
    database.close()


def test_what_is_written_is_there_after_a_reopening(database: JobsDatabase) -> None:
    database.write({b"a": b"1", b"b": b"2", keys.TICKS: b'{"turn":7}'})
    database.write({b"a": None})
    assert database.reopen() == 7
    assert (database.get(b"a"), database.get(b"b"), database.ticks()) == (None, b"2", StoredTicks(turn=7))


def test_a_database_has_the_id_of_its_dispatcher_for_good(database: JobsDatabase) -> None:
    before = database.dispatcher
    database.reopen()
    assert len(before) == 16
    assert database.dispatcher == before


def test_a_reopening_makes_no_database_where_one_is_away(database: JobsDatabase) -> None:
    """As when its disk fails and is unmounted: jobs would be accepted beneath the mount point."""
    before, away = database.dispatcher, database.folder.with_name("away")
    database.close()
    database.folder.rename(away)
    with pytest.raises(FileNotFoundError):
        database.reopen()
    assert not database.folder.exists()
    away.rename(database.folder)
    database.reopen()
    assert database.dispatcher == before


def test_a_snapshot_shows_one_state_and_holds_a_reopening_up(database: JobsDatabase) -> None:
    database.write({b"za": b"1", b"zb": b"2"})
    with database.snapshot() as snapshot:
        database.write({b"za": None})
        assert dict(snapshot.scan(b"z", b"zz")) == {b"za": b"1", b"zb": b"2"}
        reopening = threading.Thread(target=database.reopen)
        reopening.start()
        assert [key for key, _ in snapshot.scan(b"z", b"zz", reverse=True)] == [b"zb", b"za"]
    reopening.join(20)
    assert database.get(b"za") is None


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobsUnavailable), JobsDatabase(tmp_path / "jobs_db").snapshot():
        pass


def test_a_database_of_a_later_version_is_not_opened(database: JobsDatabase) -> None:
    database.write({keys.META_SCHEMA: b"2"})
    with pytest.raises(DatabaseTooNew):
        database.reopen()


@pytest.mark.parametrize("text", ["a", "a\x00", "\x00", "ä" * 10, "z\U0010ffff"])
def test_texts_in_keys_are_read_back_and_are_no_prefix_of_one_another(text: str) -> None:
    key = keys.waiting_key(text, 3, 1_000, 7)
    assert keys.type_of_waiting(key) == text
    assert keys.read_waiting(key) == (1_000, 7)
    assert keys.waiting_prefix(text, 3) <= key < keys.end_of(keys.waiting_prefix(text, 3))
    other = keys.waiting_key(text + "x", 3, 1_000, 7)
    assert not other.startswith(keys.WAITING + keys.text(text))
    assert not keys.WAITING + keys.text(text) <= other < keys.end_of(keys.WAITING + keys.text(text))


def test_a_job_runs_from_its_submission_to_its_result(tmp_path: Path) -> None:
    transport = MemoryTransport()
    dispatcher = Dispatcher(JobsDatabase(tmp_path / "jobs_db"), transport)
    dispatcher.open()
    dispatcher.start()
    jobs = LocalJobs(dispatcher)
    worker = transport.worker()
    worker.open("s1")
    worker.report([SessionHello(session="s1", host="h", version="1", concurrency=2, types=[JobType(name="report")])])
    try:
        (result,) = jobs.submit([request("a")], "me", ["write"])
        assert (result.id, result.duplicate) == ("a", False)
        (run,) = worker.receive(10, 10)
        assert isinstance(run, Run)
        worker.report([Done(session="s1", token=run.token, job=run.job, seconds=0.001)])
        deadline = threading.Event()
        while jobs.job("a").job.state != "done":
            assert not deadline.wait(0.01)
        assert jobs.list_jobs(["done"], ["report"], 10, None).jobs[0].id == "a"
        assert [known.workers for known in jobs.types()] == [1]
    finally:
        dispatcher.stop()
        worker.close(0)

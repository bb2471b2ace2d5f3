"""Jobs on a disk that is full for a while: nothing that was accepted is lost, and nothing is accepted that is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault.errors import EventVaultError, NoSpace
from eventvault.files import free_bytes
from eventvault.jobs import dispatcher as module
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import JobType
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.memory_transport import MemoryTransport, MemoryWorkerTransport
from eventvault.jobs.messages import Done, Run, SessionHello
from tests.eventvault.jobs.rig import request
from tests.mounts import tiny_disk
from tests.processes import wait_until

PAYLOAD = b'"%s"' % (b"x" * 20_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "disk", 8) as folder:
        yield folder


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def jobs(disk: Path, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalJobs]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    dispatcher = Dispatcher(JobsDatabase(disk / "jobs_db"), transport, retry_seconds=0.05)
    dispatcher.open()
    dispatcher.start()
    yield LocalJobs(dispatcher)
    dispatcher.stop()


@pytest.fixture
def worker(transport: MemoryTransport) -> Iterator[MemoryWorkerTransport]:
    worker = transport.worker()
    worker.open("s1")
    worker.report([SessionHello(session="s1", host="h", version="1", concurrency=2, types=[JobType(name="report")])])
    yield worker
    worker.close(0)


def submit(jobs: LocalJobs, job_id: str, **members: object) -> None:
    jobs.submit([request(job_id, **members)], "me", ["write"])


def fill(disk: Path) -> Path:
    """Let a file take all that is free, but for some bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free_bytes(disk) - 8_192, 4_096))
    return ballast


@pytest.mark.slow
def test_a_full_disk_refuses_submissions_and_loses_no_outcome(
    disk: Path, jobs: LocalJobs, worker: MemoryWorkerTransport
) -> None:
    submit(jobs, "before")
    (run,) = worker.receive(10, 10)
    assert isinstance(run, Run)
    ballast = fill(disk)
    accepted = {"before"}
    refused = 0
    for number in range(40):
        try:
            submit(jobs, f"j{number}", payload=PAYLOAD, delay=3_600.0)
            accepted.add(f"j{number}")
        except NoSpace:
            refused += 1
    assert refused, "the disk was not full"
    worker.report([Done(session="s1", token=run.token, job="before", seconds=0.1)])
    assert jobs.job("before").job.state == "sent", "reads go on"

    ballast.unlink()
    wait_until(lambda: jobs.job("before").job.state == "done", "the outcome that came while the disk was full")
    submit(jobs, "after")
    listed = {job.id for job in jobs.list_jobs([], [], 100, None).jobs}
    assert accepted | {"after"} <= listed


def test_after_a_full_disk_the_database_opens_with_all_that_was_accepted(
    disk: Path, transport: MemoryTransport, jobs: LocalJobs, worker: MemoryWorkerTransport
) -> None:
    ballast = fill(disk)
    wait_until(lambda: "report" in {known.type.name for known in jobs.types()} or not jobs.types(), "an answer")
    accepted = set()
    for number in range(40):
        try:
            submit(jobs, f"j{number}", payload=PAYLOAD, delay=3_600.0)
            accepted.add(f"j{number}")
        except EventVaultError:
            continue
    ballast.unlink()
    jobs._dispatcher.stop()
    again = JobsDatabase(disk / "jobs_db")
    again.open()
    with again.snapshot() as snapshot:
        assert accepted <= {key[1:].decode() for key, _ in snapshot.scan(b"j", b"k")}
    again.close()

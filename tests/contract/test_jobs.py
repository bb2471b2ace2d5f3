"""What every port to the dispatcher promises: the double, the dispatcher itself, and both over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import create_app
from app.cli.remote.jobs import RemoteJobs
from eventvault import clock
from eventvault.errors import (
    InvalidInput,
    JobNotFound,
    JobScheduleInCode,
    JobScheduleNotFound,
    JobTypeUnknown,
    ScopeMissing,
)
from eventvault.jobs import local_jobs
from eventvault.jobs.client import JobsClient
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import MAX_SCHEDULE_NAME_LENGTH, JobRequest, JobSchedule, JobType
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.jobs.messages import SessionHello
from eventvault.jobs.port import Jobs
from eventvault.scopes import SCOPES
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from tests import processes
from tests.eventvault.jobs.serving import serving
from tests.served import remote_store, served
from tests.stores import folders_beneath

ALL = list(SCOPES)
SCHEMA = msgspec.Raw(b'{"type":"object","required":["customer"],"properties":{"customer":{"type":"string"}}}')
TYPES = (
    JobType(name="echo"), JobType(name="invoice", schema=SCHEMA, max_attempts=3, timeout=60.0),
    JobType(name="prune", scope="admin"),
)  # fmt: skip
IN_CODE = JobSchedule(name="in-code", type="echo", cron="0 3 * * *", payload=msgspec.Raw(b'{"a":1}'))
KINDS = ["memory", "dispatcher", "socket", "http"]


@contextmanager
def _running(kind: str, folder: Path) -> Iterator[Jobs]:
    if kind in ("dispatcher", "socket"):
        with _dispatcher(folder) as local:
            if kind == "dispatcher":
                yield local
            else:
                with _behind_socket(local, folder) as client:
                    yield client
        return
    double = MemoryJobs()
    double.offer(*TYPES, schedules=[IN_CODE])
    if kind == "memory":
        yield double
        return
    settings = load(folders_beneath(folder))
    settings.backup_dir.mkdir(parents=True)
    app = create_app(settings, MemoryStore(settings.backup_dir), jobs=double, shared_seconds=0.0)
    with served(app) as url, remote_store(url) as remote:
        yield RemoteJobs.over(remote)


@contextmanager
def _dispatcher(folder: Path) -> Iterator[Jobs]:
    """A dispatcher in this process, and a worker that runs nothing."""
    transport = MemoryTransport()
    dispatcher = Dispatcher(JobsDatabase(folder / "jobs_db"), transport)
    dispatcher.open()
    dispatcher.start()
    worker = transport.worker()
    worker.open("s")
    hello = SessionHello(session="s", host="h", version="1", concurrency=1, types=list(TYPES), schedules=[IN_CODE])
    worker.report([hello])
    local = LocalJobs(dispatcher)
    processes.wait_until(lambda: len(local.types()) == len(TYPES), "the worker is not known")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_jobs, "START_SECONDS", 0.0)  # the one worker is there
            yield local
    finally:
        worker.close(0.0)
        dispatcher.stop()


@contextmanager
def _behind_socket(local: Jobs, folder: Path) -> Iterator[Jobs]:
    with serving(folder, lambda: local), closing(JobsClient.over(folder)) as client:
        yield client


@pytest.fixture(scope="module", params=KINDS)
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The jobs that the tests of this module share: those of other tests are in them."""
    with _running(request.param, tmp_path_factory.mktemp("jobs")) as found:
        yield found


def request_of(job_id: str, job_type: str = "echo", payload: bytes = b"null", **more: Any) -> JobRequest:
    """A job that is not due while the tests run."""
    return JobRequest(type=job_type, id=job_id, payload=msgspec.Raw(payload), **{"delay": 3600.0, **more})


def submit(jobs: Jobs, *ids: str, **more: Any) -> None:
    jobs.submit([request_of(each, **more) for each in ids], "tester", ALL)


def test_a_job_is_there_as_it_was_submitted(jobs: Jobs) -> None:
    before = clock.now()
    asked = request_of("as-sent/1", "invoice", b'{"customer":"a","n":1.10}', priority=3, key="k", unique="u")
    (result,) = jobs.submit([asked], "tester", ALL)
    assert (result.id, result.state, result.duplicate, result.differs) == ("as-sent/1", "pending", False, False)
    view = jobs.job("as-sent/1")
    job = view.job
    assert (bytes(view.payload or b""), view.result or msgspec.Raw(b"null")) == (
        b'{"customer":"a","n":1.10}', msgspec.Raw(b"null")
    )  # fmt: skip
    assert (job.type, job.state, job.priority, job.key, job.unique) == ("invoice", "pending", 3, "k", "u")
    assert (job.max_attempts, job.timeout, job.attempt, job.tries, job.attempts) == (3, 60.0, 0, 0, ())
    assert before - 1000 <= job.created <= clock.now()
    assert 3_599_000_000 < job.run_at - job.created < 3_601_000_000


def test_the_same_id_is_there_once(jobs: Jobs) -> None:
    submit(jobs, "once", payload=b"1")
    same, other = (jobs.submit([request_of("once", payload=each)], "tester", ALL)[0] for each in (b"1", b"2"))
    assert (same.duplicate, same.differs, other.duplicate, other.differs) == (True, False, True, True)
    assert bytes(jobs.job("once").payload or b"") == b"1"


def test_a_unique_one_is_there_once_until_it_is_finished(jobs: Jobs) -> None:
    submit(jobs, "first", unique="nightly")
    (second,) = jobs.submit([request_of("second", unique="nightly")], "tester", ALL)
    assert (second.id, second.duplicate) == ("first", True)
    with pytest.raises(JobNotFound):
        jobs.job("second")
    jobs.cancel(["first"])
    (third,) = jobs.submit([request_of("third", unique="nightly")], "tester", ALL)
    assert (third.id, third.duplicate) == ("third", False)


def test_all_of_a_request_are_accepted_or_none(jobs: Jobs) -> None:
    with pytest.raises(JobTypeUnknown) as unknown:
        jobs.submit([request_of("half-1"), request_of("half-2", "ecko")], "tester", ALL)
    assert unknown.value.details["known"] == ["echo", "invoice", "prune"]
    with pytest.raises(InvalidInput) as invalid:
        jobs.submit([request_of("half-1"), request_of("half-2", "invoice", b"{}")], "tester", ALL)
    assert list(invalid.value.details["fields"]) == ["1"]
    with pytest.raises(JobNotFound):
        jobs.job("half-1")


def test_a_type_needs_its_scope(jobs: Jobs) -> None:
    if isinstance(jobs, RemoteJobs):
        pytest.skip("the service knows the scopes by the token")
    with pytest.raises(ScopeMissing) as refused:
        jobs.submit([request_of("scope", "prune")], "tester", ["write", "read", "metrics"])
    assert refused.value.details["scope"] == "admin"


def test_a_list_is_newest_first_filtered_and_in_pages(jobs: Jobs) -> None:
    submit(jobs, *(f"page-{number}" for number in range(4)))
    submit(jobs, "page-4", job_type="prune")
    jobs.cancel(["page-2"])
    first = jobs.list_jobs([], [], 2, None)
    assert ([job.id for job in first.jobs], first.next) == (["page-4", "page-3"], "page-3")
    assert [job.id for job in jobs.list_jobs([], [], 2, first.next).jobs] == ["page-2", "page-1"]
    assert [job.id for job in jobs.list_jobs(["cancelled"], ["echo"], 1, None).jobs] == ["page-2"]
    assert [job.id for job in jobs.list_jobs(["pending", "cancelled"], ["echo"], 3, None).jobs] == [
        "page-3", "page-2", "page-1",
    ]  # fmt: skip
    assert [job.id for job in jobs.list_jobs([], ["prune"], 1, None).jobs] == ["page-4"]
    assert jobs.list_jobs(["dead"], [], 5, None).jobs == []
    with pytest.raises(JobNotFound):
        jobs.list_jobs([], [], 5, "no such job")


def test_a_cancelled_job_can_be_retried(jobs: Jobs) -> None:
    submit(jobs, "cancelled", "waits")
    cancelled, unknown = jobs.cancel(["cancelled", "no such job"])
    assert (cancelled.outcome, cancelled.state, unknown.outcome) == ("changed", "cancelled", "unknown")
    assert jobs.job("cancelled").job.ended is not None
    assert [each.outcome for each in jobs.cancel(["cancelled"])] == ["unchanged"]
    retried, waits = jobs.retry(["cancelled", "waits"])
    assert (retried.outcome, waits.outcome) == ("changed", "unchanged")
    assert jobs.job("cancelled").job.ended is None
    jobs.cancel(["cancelled"])


def test_a_type_is_paused_until_it_is_resumed(jobs: Jobs) -> None:
    assert jobs.pause("echo") == ["echo"]
    assert {known.type.name: known.is_paused for known in jobs.types()} == {
        "echo": True, "invoice": False, "prune": False,
    }  # fmt: skip
    assert jobs.resume("echo") == []
    assert jobs.pause(None) == ["echo", "invoice", "prune"]
    assert jobs.resume(None) == []


def test_a_type_is_known_with_what_its_worker_said(jobs: Jobs) -> None:
    invoice = next(known for known in jobs.types() if known.type.name == "invoice")
    assert (invoice.workers, invoice.type.max_attempts, invoice.type.timeout, invoice.type.scope) == (
        1,
        3,
        60.0,
        "write",
    )
    assert msgspec.json.decode(invoice.type.schema or b"") == msgspec.json.decode(SCHEMA)


def test_a_schedule_is_made_replaced_and_deleted(jobs: Jobs) -> None:
    asked = JobSchedule(
        name="a/b c", type="echo", cron="30 2 * * *", time_zone="Europe/Berlin", payload=msgspec.Raw(b'{"n":1}')
    )
    made = jobs.put_schedule(asked)
    assert (made.name, made.cron, bytes(made.payload), made.in_code) == ("a/b c", "30 2 * * *", b'{"n":1}', False)
    assert made.next is not None
    assert made.next > clock.now()
    jobs.put_schedule(msgspec.structs.replace(asked, is_paused=True))
    assert {each.name: each.is_paused for each in jobs.schedules()} == {"a/b c": True, "in-code": False}
    jobs.delete_schedule("a/b c")
    with pytest.raises(JobScheduleNotFound):
        jobs.delete_schedule("a/b c")


def test_a_schedule_in_code_stays_as_it_is(jobs: Jobs) -> None:
    (in_code,) = (each for each in jobs.schedules() if each.name == "in-code")
    assert (in_code.in_code, in_code.type, bytes(in_code.payload)) == (True, "echo", b'{"a":1}')
    with pytest.raises(JobScheduleInCode):
        jobs.put_schedule(JobSchedule(name="in-code", type="echo", cron="0 4 * * *"))
    with pytest.raises(JobScheduleInCode):
        jobs.delete_schedule("in-code")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "off"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 3 * * *"}, "cron"),
        ({"time_zone": "Mars/Base"}, "timeZone"),
    ],
)
def test_a_schedule_that_never_fires_is_refused(jobs: Jobs, change: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        jobs.put_schedule(msgspec.structs.replace(JobSchedule(name="x", type="echo", cron="0 3 * * *"), **change))
    assert list(refused.value.details["fields"]) == [field]


def test_a_schedule_whose_jobs_would_have_too_long_an_id_is_refused(jobs: Jobs) -> None:
    longest = JobSchedule(name="n" * MAX_SCHEDULE_NAME_LENGTH, type="echo", cron="0 3 * * *")
    jobs.put_schedule(longest)
    jobs.delete_schedule(longest.name)
    with pytest.raises(InvalidInput) as refused:
        jobs.put_schedule(msgspec.structs.replace(longest, name=longest.name + "n"))
    (problem,) = refused.value.details["fields"]["name"]
    assert "choose a shorter one" in problem


def test_a_schedule_needs_a_known_type_and_a_payload_that_it_takes(jobs: Jobs) -> None:
    with pytest.raises(JobTypeUnknown):
        jobs.put_schedule(JobSchedule(name="x", type="ecko", cron="0 3 * * *"))
    with pytest.raises(InvalidInput):
        jobs.put_schedule(JobSchedule(name="x", type="invoice", cron="0 3 * * *"))
    assert [each.name for each in jobs.schedules()] == ["in-code"]


def test_jobs_since_an_instant_are_counted_and_cancelled(jobs: Jobs) -> None:
    if isinstance(jobs, RemoteJobs):
        pytest.skip("a restore does this on the machine of the service")
    submit(jobs, "before")
    instant = clock.now()
    submit(jobs, "since-1", "since-2")
    jobs.cancel(["since-2"])
    assert jobs.count_unfinished_after(instant) == 1
    assert jobs.cancel_unfinished_after(instant) == 1
    assert (jobs.job("before").job.state, jobs.job("since-1").job.state) == ("pending", "cancelled")

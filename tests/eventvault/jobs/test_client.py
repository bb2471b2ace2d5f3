"""The port to the dispatcher over its socket: answers, errors, a dispatcher that is away, ends, or hangs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from eventvault.errors import InvalidInput, JobNotFound, JobsUnavailable, OutcomeUnknown
from eventvault.jobs import server as server_module
from eventvault.jobs import submitting, wire
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import Job, JobRequest, JobSchedule
from eventvault.jobs.port import Jobs, JobView, QueueStatus, SubmitResult
from eventvault.rpc import frames, sockets
from tests.eventvault.jobs.serving import serving
from tests.processes import wait_until

STATUS = QueueStatus(
    workers=1, slots=2, waiting=3, running=1, dead=0, held=0, oldest_waiting=None, states={"pending": 3},
    refused_reports=0, broker=False, problems=[],
)  # fmt: skip


class FakeJobs(Jobs):
    """Accepts what is submitted, in memory."""

    def __init__(self) -> None:
        self.submitted: dict[str, JobRequest] = {}
        self.fail: Exception | None = None

    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        if self.fail is not None:
            raise self.fail
        results = [SubmitResult(each.id or "", "pending", each.id in self.submitted) for each in requests]
        self.submitted |= {each.id or "": each for each in requests}
        return results

    def job(self, job_id: str) -> JobView:
        if job_id not in self.submitted:
            raise JobNotFound(f"there is no job {job_id!r}", hint="list them")
        asked = self.submitted[job_id]
        job = Job(id=job_id, type=asked.type, order=1, state="pending", created=1, run_at=1, digest="")
        return JobView(job, asked.payload, None)

    def status(self) -> QueueStatus:
        return STATUS

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        return msgspec.structs.replace(schedule, next=7)


@contextmanager
def silent_dispatcher(storage: Path) -> Iterator[socket.socket]:
    """A dispatcher that takes connections and says nothing."""
    listener, path = sockets.listen(storage, "jobs.sock")
    with listener:
        yield listener
    sockets.remove(path)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[FakeJobs]:
    fake = FakeJobs()
    with serving(tmp_path, lambda: fake):
        yield fake


@pytest.fixture
def client(tmp_path: Path) -> Iterator[JobsClient]:
    with closing(JobsClient.over(tmp_path)) as client:
        yield client


def requests(*payloads: str, **more: Any) -> list[JobRequest]:
    return [JobRequest(type="t", payload=msgspec.Raw(text.encode()), **more) for text in payloads]


@pytest.mark.slow
def test_jobs_are_submitted_with_ids_and_payloads_as_they_were_sent(client: JobsClient, jobs: FakeJobs) -> None:
    first, second = submitting.submit(client, requests('{"a" : 1.50}', "[]"), "open", ["write"])
    assert not first.duplicate
    assert first.id < second.id, "the ids are in order of their time"
    assert bytes(client.job(first.id).payload or b"") == b'{"a" : 1.50}'


@pytest.mark.slow
def test_errors_arrive_as_they_were_raised(client: JobsClient, jobs: FakeJobs) -> None:
    jobs.fail = InvalidInput("no", hint="yes", fields={"payload.a": ["is missing"]})
    with pytest.raises(InvalidInput) as caught:
        client.submit(requests("{}"), "open", [])
    assert caught.value.details == {"fields": {"payload.a": ["is missing"]}}
    with pytest.raises(JobNotFound, match="there is no job 'x'"):
        client.job("x")


@pytest.mark.slow
def test_what_is_put_and_counted_comes_back(client: JobsClient, jobs: FakeJobs) -> None:
    schedule = JobSchedule(name="nightly", type="t", cron="0 3 * * *", payload=msgspec.Raw(b'{"b": [1]}'))
    assert client.put_schedule(schedule) == msgspec.structs.replace(schedule, next=7)
    assert client.status() == STATUS


@pytest.mark.slow
def test_a_request_waits_for_the_next_dispatcher_and_is_accepted_once(tmp_path: Path, client: JobsClient) -> None:
    fake = FakeJobs()
    answers: list[list[SubmitResult]] = []
    thread = Thread(target=lambda: answers.append(submitting.submit(client, requests("1"), "open", [])))
    with silent_dispatcher(tmp_path) as listener:
        thread.start()
        connection, _ = listener.accept()
        method, arguments = wire.read_request(frames.receive(connection))
        getattr(fake, method)(*arguments)  # it is on disk, and nobody says so
        connection.close()
    with serving(tmp_path, lambda: fake):
        thread.join(60)
    assert [[(one.id in fake.submitted, one.duplicate) for one in results] for results in answers] == [[(True, False)]]
    assert len(fake.submitted) == 1


@pytest.mark.slow
def test_who_sends_an_id_learns_that_it_is_there(client: JobsClient, jobs: FakeJobs) -> None:
    asked = requests("1", id="mine")
    assert [client.submit(asked, "open", [])[0].duplicate for _ in range(2)] == [False, True]


def test_without_a_dispatcher_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobsUnavailable, match=r"no dispatcher of jobs answers at .*jobs\.sock"):
        JobsClient(tmp_path, patience=0.05).submit(requests("1"), "open", [])


@pytest.mark.slow
def test_a_change_that_nobody_answers_may_have_taken_effect(tmp_path: Path) -> None:
    with (
        silent_dispatcher(tmp_path),
        closing(JobsClient(tmp_path, patience=0.1)) as hasty,
        pytest.raises(OutcomeUnknown),
    ):
        hasty.submit(requests("1"), "open", [])


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [False, True])
def test_the_status_keeps_its_deadline(tmp_path: Path, client: JobsClient, is_there: bool) -> None:
    began = time.monotonic()
    with silent_dispatcher(tmp_path) if is_there else nullcontext(), pytest.raises(JobsUnavailable):
        client.status()
    assert time.monotonic() - began < 12, "health asks within a second; this one waits for a request's patience"


@pytest.mark.slow
def test_a_dispatcher_without_a_database_says_why(tmp_path: Path, client: JobsClient) -> None:
    def refuse() -> Jobs:
        raise JobsUnavailable("the database of jobs is damaged", hint="see the log")

    with serving(tmp_path, refuse), pytest.raises(JobsUnavailable, match="is damaged"):
        client.job("x")


def test_it_ends_for_its_own_service_only(tmp_path: Path) -> None:
    with serving(tmp_path, FakeJobs) as server, sockets.connect(tmp_path, 5, "jobs.sock") as connection:
        for service, ends in (("another", False), ("service", True)):
            frames.send(connection, wire.request("end", service))
            assert wire.read_reply("end", frames.receive(connection)) is ends
        wait_until(lambda: not sockets.listens(tmp_path, "jobs.sock"), "it still listens")
        assert server._is_over()


@pytest.mark.slow
def test_it_ends_when_no_store_has_come_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, FakeJobs, has_store=False):
        with sockets.connect(tmp_path, 60, "jobs.sock") as store:
            frames.send(store, wire.request("hello"))
            assert wire.read_reply("hello", frames.receive(store)).service == "service"
            monkeypatch.setattr(server_module, "LINGER_SECONDS", 0.5)
            time.sleep(1)
            assert sockets.listens(tmp_path, "jobs.sock"), "a store is connected"
        wait_until(lambda: not sockets.listens(tmp_path, "jobs.sock"), "it still listens")


@pytest.mark.slow
@pytest.mark.parametrize("nonsense", [b"", b"\xff" * 20, b'["no-such-method",[]]', b'["submit",[1]]', b"[]"])
def test_nonsense_ends_only_its_connection(tmp_path: Path, client: JobsClient, jobs: FakeJobs, nonsense: bytes) -> None:
    with sockets.connect(tmp_path, 5, "jobs.sock") as connection:
        frames.send(connection, nonsense)
        with pytest.raises(ConnectionError):
            frames.receive(connection)
    assert client.status() == STATUS

"""Each error of the system, at some call of the dispatcher: no accepted job is lost, and it goes on by itself.

`make test` tries a few, `make soak` many; the seed is printed. As `test_each_system_error.py` for the store.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app import dispatcher
from eventvault import data_folders
from eventvault.errors import EventVaultError
from eventvault.jobs import wire
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import JobSchedule, JobType
from eventvault.jobs.messages import SessionHello
from eventvault.jobs.port import QueueStatus
from eventvault.jobs.socket_worker_transport import SocketWorkerTransport
from eventvault.rpc import frames, sockets
from eventvault.settings import Settings
from eventvault.store.process.dispatcher import DispatcherKeeper
from tests import processes
from tests.crash.test_each_system_error import (
    CALLS,
    DEADLINE_SECONDS,
    ERRORS,
    STARTS,
    answer_of,
    detach,
    failing,
    faults_of,
)
from tests.eventvault.jobs.rig import request
from tests.schedule import series_seed, share

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace to make system calls fail"),
]

ANSWERS = {"done", "no_space", "too_busy", "disk_failed", "write_failed", "jobs_unavailable", "outcome_unknown"}
DAMAGE = {"jobs_damaged", "jobs_rewound", "file_damaged"}
SCHEDULE = JobSchedule(name="nightly", type="report", cron="0 3 * * *")
LAST_CALL = 5

Verb = Callable[[JobsClient], object]
VERBS: dict[str, Verb] = {
    "submit": lambda client: client.submit([request(f"more-{time.monotonic_ns()}", delay=3600.0)], "me", ["write"]),
    "list": lambda client: client.list_jobs([], [], 1000, None),
    "show": lambda client: client.job("job-0"),
    "pause": lambda client: client.pause("report"),
    "resume": lambda client: client.resume(None),
    "schedule": lambda client: client.put_schedule(SCHEDULE),
}


@contextmanager
def kept(settings: Settings, command: Sequence[str] = dispatcher.COMMAND) -> Iterator[JobsClient]:
    """Run a dispatcher, and another one where it ends, for a client."""
    keeper = DispatcherKeeper(settings, command, "service-1")
    client = JobsClient.over(settings.storage_dir)
    keeper.start()
    try:
        yield client
    finally:
        client.close()
        pid = pid_of(settings)
        keeper.stop(end_dispatcher=True)
        processes.wait_until(lambda: not Path(f"/proc/{pid}").exists() or keeper._child is None or
                             keeper._child.poll() is not None, "the dispatcher does not end")  # fmt: skip


def pid_of(settings: Settings) -> int:
    found: list[int] = []

    def answers() -> bool:
        with (
            suppress(OSError, EventVaultError),
            sockets.connect(settings.storage_dir, 1.0, data_folders.JOBS_SOCKET) as connection,
        ):
            frames.send(connection, wire.request("hello"))
            found.append(wire.read_reply("hello", frames.receive(connection)).pid)
        return bool(found)

    processes.wait_until(answers, "no dispatcher answers", 60)
    return found[0]


def name_a_type(settings: Settings, client: JobsClient) -> None:
    """A worker says once what it runs, and the dispatcher remembers it."""
    worker = SocketWorkerTransport(settings.storage_dir)

    def is_known() -> bool:
        worker.receive(0.05, 1)
        with suppress(EventVaultError):
            return bool(client.types())
        return False

    processes.wait_until(lambda: bool(pid_of(settings)), "no dispatcher answers")
    worker.open("s1")
    worker.report([SessionHello(session="s1", host="h", version="1", concurrency=1, types=[JobType(name="report")])])
    processes.wait_until(is_known, "the type is not known", 60)
    worker.close(1.0)


def ids(client: JobsClient) -> set[str]:
    return {job.id for job in client.list_jobs([], [], 1000, None).jobs}


def check(client: JobsClient, accepted: set[str], tried: str) -> None:
    """With the fault gone, the dispatcher goes on by itself, has everything, and calls nothing damaged."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    name = f"check-{time.monotonic_ns()}"
    while (answer := answer_of(lambda: client.submit([request(name, delay=3600.0)], "me", ["write"]))) != "done":
        assert time.monotonic() < deadline, f"{tried}: the dispatcher does not go on: {answer}"
        time.sleep(0.1)
    missing = (accepted | {name}) - ids(client)
    assert not missing, f"{tried}: lost {sorted(missing)}"
    damage = [problem for problem in status_of(client).problems if problem.code in DAMAGE]
    assert not damage, f"{tried}: {damage}"


def status_of(client: JobsClient) -> QueueStatus:
    """It is asked with a deadline, which a busy machine may miss."""
    found: list[QueueStatus] = []

    def answers() -> bool:
        with suppress(EventVaultError):
            found.append(client.status())
        return bool(found)

    processes.wait_until(answers, "the dispatcher does not say how it is")
    return found[-1]


@pytest.fixture
def jobs_settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOBS_ENABLED": "true", "JOBS_LOCAL_CONCURRENCY": "0"})


def seeded() -> random.Random:
    return random.Random(series_seed())


@pytest.mark.parametrize("rounds", [3, pytest.param(share(300), id="long", marks=pytest.mark.soak)])
def test_each_error_of_the_system_at_some_call_of_each_request(
    jobs_settings: Settings, tmp_path: Path, rounds: int
) -> None:
    chosen, fired, log = seeded(), 0, tmp_path / "strace"
    with kept(jobs_settings) as client:
        name_a_type(jobs_settings, client)
        client.submit([request("job-0", delay=3600.0)], "me", ["write"])
        for number in range(rounds):
            verb = chosen.choice(list(VERBS))
            faults = faults_of(chosen, LAST_CALL)
            tried = f"round {number}, {verb}, {faults}"
            before = ids(client)
            with failing(pid_of(jobs_settings), faults, log):
                answer = answer_of(lambda verb=verb: VERBS[verb](client))  # type: ignore[misc]
            fired += "(INJECTED)" in log.read_text(errors="replace")
            assert answer in ANSWERS, f"{tried}: {answer}"
            check(client, before, tried)
    print(f"{fired} of {rounds} faults fired")
    assert fired or rounds < 20, "no fault fired"


@pytest.mark.parametrize("rounds", [1, pytest.param(share(150), id="long", marks=pytest.mark.soak)])
@pytest.mark.parametrize("recover", [False, True])
def test_each_error_of_the_system_at_some_call_of_a_start(
    jobs_settings: Settings, tmp_path: Path, rounds: int, recover: bool
) -> None:
    """recover: `jobs_db` is lost, and what is unfinished comes from the copy that the stop wrote."""
    chosen, log = seeded(), tmp_path / "strace"
    with kept(jobs_settings) as client:
        name_a_type(jobs_settings, client)
        client.submit([request(f"job-{number}", delay=3600.0) for number in range(20)], "me", ["write"])
        accepted = ids(client)
    for number in range(rounds):
        if recover:
            shutil.rmtree(jobs_settings.storage_dir / data_folders.JOBS_DATABASE)
        call = chosen.choice(CALLS)
        last = 3000 if call in ("openat", "newfstatat", "read") else 8 * LAST_CALL  # Python loads its modules first
        fault = f"{call}:error={chosen.choice(ERRORS)}:when={chosen.randrange(1, last)}"
        script = STARTS.format(once=tmp_path / f"once-{number}", log=log, call=call, fault=fault)
        with kept(jobs_settings, ["sh", "-c", script, "sh", *dispatcher.COMMAND]) as client:
            pid_of(jobs_settings)
            detach(log)
            tried = f"round {number}, start, {fault}"
            if recover:
                name_a_type(jobs_settings, client)
            check(client, accepted, tried)
            if recover:
                assert {client.job(job_id).job.state for job_id in accepted} == {"held"}, tried
                client.resume(None)
            accepted = ids(client)

"""`python -m worker` as a process, over the socket of a dispatcher that runs in the test."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault import data_folders
from eventvault.jobs import wire
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import Job, JobRequest
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.server import JobsServer
from eventvault.jobs.socket_transport import SocketTransport
from tests.eventvault.jobs.serving import store_connected
from tests.processes import wait_until
from tests.worker.worker_harness import wait_until_dead, wait_until_reported

PROJECT = Path(__file__).resolve().parents[2]
TICK, SHORT_TICK = 1.0, 0.4
"""A lease has six: the short one is for tests that wait for the end of a lease."""
PATIENCE_SECONDS = 90.0
OTHERS = 1_000
HANDLERS = "tests.worker.handlers_for_executors"

pytestmark = pytest.mark.process


class Jobs:
    """The dispatcher of the test, and the jobs that it is asked for."""

    def __init__(self, jobs: LocalJobs) -> None:
        self.port = jobs
        self._submitted = 0

    def submit(self, job_type: str, payload: Any = None, **further: Any) -> str:
        self._submitted += 1
        asked = JobRequest(
            id=f"job-{self._submitted}", type=job_type, payload=msgspec.Raw(json.dumps(payload).encode()), **further
        )
        (result,) = self.port.submit([asked], "test", ["read", "write", "backup", "admin"])
        return result.id

    def job(self, job_id: str) -> Job:
        return self.port.job(job_id).job

    def wait_for(self, job_id: str, *states: str) -> Job:
        wait_until(lambda: self.job(job_id).state in states, f"{job_id} does not become {states}", PATIENCE_SECONDS)
        return self.job(job_id)

    def wait_for_worker(self, count: int = 1) -> None:
        wait_until(lambda: self.port.status().workers == count, f"there are not {count} workers", PATIENCE_SECONDS)


@contextmanager
def running_dispatcher(storage: Path, tick: float = TICK) -> Iterator[Jobs]:
    transport = SocketTransport(tick)
    dispatcher = Dispatcher(JobsDatabase(storage / data_folders.JOBS_DATABASE), transport)
    dispatcher.open()
    dispatcher.start()
    jobs = LocalJobs(dispatcher)
    hello = wire.DispatcherHello(wire.PROTOCOL, "test", os.getpid(), "", 0.0)
    server = JobsServer(lambda: jobs, lambda: hello, transport.attach)
    listening = threading.Event()
    thread = threading.Thread(target=server.serve, args=(storage, listening.set))
    thread.start()
    assert listening.wait(PATIENCE_SECONDS)
    try:
        with store_connected(storage):
            yield Jobs(jobs)
    finally:
        server.end()
        thread.join(PATIENCE_SECONDS)
        dispatcher.stop()
        server.drain()


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


def executor_of(path: Path) -> int:
    """Wait until a handler that waits for `path` has begun. Returns its process: "running" comes from its worker."""
    started = path.with_name(f"{path.name}.started")
    wait_until(lambda: started.exists() and started.read_text().endswith("\n"), "it does not begin", PATIENCE_SECONDS)
    return int(started.read_text())


StartWorker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_worker(storage: Path, settings_environment: dict[str, str], tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **further: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"], **settings_environment, "PYTHONPATH": str(PROJECT), "STORAGE_DIR": str(storage),
            "EVENTVAULT_TICK_SECONDS": str(TICK), "WORKER_JOBS": HANDLERS, "WORKER_CONCURRENCY": "2", **further,
        }  # fmt: skip
        words = (tmp_path / "worker.log").open("a")
        with words:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "worker", *arguments], env=environment, cwd=tmp_path, stderr=words, text=True
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_jobs_run_and_what_became_of_them_is_on_record(storage: Path, start_worker: StartWorker) -> None:
    with running_dispatcher(storage) as jobs:
        worker = start_worker()
        jobs.wait_for_worker()
        done = jobs.submit("about")
        dead = jobs.submit("print_much", "not a number", max_attempts=1)
        refused = jobs.submit("give_up")
        assert jobs.wait_for(done, "done").attempts[0].host.endswith(f"-{worker.pid}")
        assert json.loads(bytes(jobs.port.job(done).result or b""))["maxAttempts"] == 5
        last = jobs.wait_for(dead, "dead")
        assert last.error is not None
        assert last.error.message.startswith("TypeError")
        assert "Traceback" in last.attempts[-1].output
        assert jobs.wait_for(refused, "dead").tries == 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
        jobs.wait_for_worker(0)


def test_a_worker_that_drains_hands_its_job_to_another_one(
    storage: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    with running_dispatcher(storage) as jobs:
        first = start_worker(WORKER_DRAIN_SECONDS="0")
        jobs.wait_for_worker()
        job_id = jobs.submit("wait_for", str(tmp_path / "go"))
        jobs.wait_for(job_id, "running")
        start_worker()
        jobs.wait_for_worker(2)
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE_SECONDS) == 0
        (tmp_path / "go").touch()
        job = jobs.wait_for(job_id, "done")
        assert [attempt.outcome for attempt in job.attempts] == ["returned", "done"]
        assert job.tries == 0


def test_a_killed_worker_takes_its_processes_along_and_its_job_is_repeated(
    storage: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    with running_dispatcher(storage, SHORT_TICK) as jobs:
        worker = start_worker(EVENTVAULT_TICK_SECONDS=str(SHORT_TICK))
        jobs.wait_for_worker()
        child = jobs.submit("leave_daemon_and_wait", str(tmp_path / "child"))
        jobs.wait_for(child, "running")
        wait_until(lambda: (tmp_path / "child").exists(), "no child", PATIENCE_SECONDS)
        daemon, executor = map(int, (tmp_path / "child").read_text().split())
        worker.kill()
        worker.wait()
        wait_until_dead(executor)
        wait_until_dead(daemon)
        jobs.wait_for(child, "pending")
        assert jobs.job(child).attempts[0].outcome == "lost"


def test_a_worker_that_was_stopped_beyond_its_lease_is_refused_and_begins_anew(
    storage: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Its handler goes on meanwhile, and returns: what it returned is refused, and the job runs once more."""
    with running_dispatcher(storage, SHORT_TICK) as jobs:
        worker = start_worker(EVENTVAULT_TICK_SECONDS=str(SHORT_TICK))
        jobs.wait_for_worker()
        job_id = jobs.submit("wait_for", str(tmp_path / "go"))
        jobs.wait_for(job_id, "running")
        executor = executor_of(tmp_path / "go")
        worker.send_signal(signal.SIGSTOP)
        jobs.wait_for_worker(0)
        (tmp_path / "go").touch()
        wait_until_reported(executor, tmp_path / "go.ended")
        worker.send_signal(signal.SIGCONT)
        job = jobs.wait_for(job_id, "done")
        assert [attempt.outcome for attempt in job.attempts] == ["lost", "done"]
        assert len((tmp_path / "go.started").read_text().split()) == 2


def test_a_worker_goes_on_with_the_next_dispatcher(storage: Path, start_worker: StartWorker, tmp_path: Path) -> None:
    with running_dispatcher(storage) as jobs:
        start_worker()
        jobs.wait_for_worker()
        job_id = jobs.submit("wait_for", str(tmp_path / "go"))
        jobs.wait_for(job_id, "running")
    (tmp_path / "go").touch()
    with running_dispatcher(storage) as jobs:
        job = jobs.wait_for(job_id, "done")
        assert [attempt.outcome for attempt in job.attempts] == ["done"]


def test_a_cancelled_job_ends_in_its_handler(storage: Path, start_worker: StartWorker, tmp_path: Path) -> None:
    with running_dispatcher(storage) as jobs:
        start_worker()
        jobs.wait_for_worker()
        job_id = jobs.submit("clean_up", str(tmp_path / "reason"))
        wait_until((tmp_path / "reason.started").exists, "the handler does not begin", PATIENCE_SECONDS)
        jobs.wait_for(job_id, "running")
        jobs.port.cancel([job_id])
        jobs.wait_for(job_id, "cancelled")
        assert (tmp_path / "reason").read_text() == "cancelled"


def run_others(jobs: Jobs, name: str) -> float:
    """Have 1,000 jobs done; returns within how many seconds."""
    before = jobs.port.status().states.get("done", 0)
    began = time.monotonic()
    jobs.port.submit([JobRequest(id=f"{name}-{number}", type="about") for number in range(OTHERS)], "test", ["write"])
    done = before + OTHERS
    wait_until(lambda: jobs.port.status().states.get("done") == done, "they are not done", PATIENCE_SECONDS)
    return time.monotonic() - began


def run_beside(jobs: Jobs, name: str) -> float:
    """As `run_others`, behind a job that hangs and one that ends its process again and again."""
    hanging = jobs.submit("hang", max_attempts=1)
    jobs.wait_for(hanging, "running")
    leaving = jobs.submit("os_exit", max_attempts=2)
    seconds = run_others(jobs, name)
    assert jobs.job(hanging).state == "running", "the others were done while it hangs"
    assert jobs.wait_for(leaving, "dead").tries == 2
    jobs.port.cancel([hanging])
    jobs.wait_for(hanging, "cancelled")
    return seconds


def test_jobs_that_hang_or_exit_keep_no_others_from_running(storage: Path, start_worker: StartWorker) -> None:
    """A worker of two: one job hangs, one ends its process again and again, a thousand behind them are done."""
    with running_dispatcher(storage) as jobs:
        start_worker()
        jobs.wait_for_worker()
        run_beside(jobs, "beside")


@pytest.mark.soak
def test_jobs_behind_one_that_hangs_need_no_more_than_twice_their_time(
    storage: Path, start_worker: StartWorker
) -> None:
    """How long they take is no matter of the short form, which runs beside others: they might take it from one run."""
    with running_dispatcher(storage) as jobs:
        start_worker()
        jobs.wait_for_worker()
        run_others(jobs, "first")
        ratios = [run_beside(jobs, f"beside-{n}") / run_others(jobs, f"alone-{n}") for n in range(5)]
        print(f"beside a hanging job / alone: {[round(ratio, 2) for ratio in ratios]}")
        assert statistics.median(ratios) <= 2


def test_a_second_signal_ends_a_worker_at_once(storage: Path, start_worker: StartWorker, tmp_path: Path) -> None:
    with running_dispatcher(storage) as jobs:
        worker = start_worker()
        jobs.wait_for_worker()
        job_id = jobs.submit("wait_for", str(tmp_path / "go"))
        jobs.wait_for(job_id, "running")
        executor = executor_of(tmp_path / "go")
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: jobs.port.status().slots == 0, "the worker does not drain", PATIENCE_SECONDS)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        wait_until_dead(executor)


def test_a_worker_whose_module_cannot_be_imported_exits_78(
    storage: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    with running_dispatcher(storage):
        (tmp_path / "broken_jobs.py").write_text("raise ValueError('broken')\n")
        worker = start_worker(WORKER_JOBS="broken_jobs")
        assert worker.wait(PATIENCE_SECONDS) == 78
        words = (tmp_path / "worker.log").read_text()
        assert "the module broken_jobs with job handlers cannot be imported: ValueError: broken" in words
        assert "HINT: " in words


def test_a_worker_without_broker_and_dispatcher_exits_78(start_worker: StartWorker, tmp_path: Path) -> None:
    assert start_worker().wait(PATIENCE_SECONDS) == 78
    words = (tmp_path / "worker.log").read_text()
    assert "KAFKA_BOOTSTRAP_SERVERS is not set, and no dispatcher has its socket in " in words

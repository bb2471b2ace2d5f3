"""Jobs survive the end, and the hanging, of each process that has to do with them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from eventvault.errors import EventVaultError, JobsUnavailable, OutcomeUnknown
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import FINAL_STATES, Job, JobRequest
from eventvault.jobs.port import KnownType
from tests.processes import MARK, wait_until
from tests.service import Service

TICK = 0.2
LEASE = 6 * TICK
PARTS = {
    "store": "app.store",
    "dispatcher": "app.dispatcher",
    "worker": "worker --local",
    "nursery": "worker.nursery",
}
"""Part → what its command line has."""


class Run(NamedTuple):
    """A run of a handler. end: None if its process was killed."""

    job: str
    attempt: int
    begin: float
    end: float | None


@dataclass
class Jobs:
    """The service under test, and what its handlers wrote down."""

    service: Service
    ledger: Path
    client: JobsClient

    def pids(self, part: str) -> list[int]:
        """Process ids of a part. Executors are forks of the nursery, and have its command line."""
        found = self.service.processes()
        forked = part == "executor"
        line = PARTS["nursery" if forked else part]
        return [pid for pid in found if line in found[pid] and (line in found.get(_parent(pid), "")) == forked]

    def pid(self, part: str) -> int:
        wait_until(lambda: len(self.pids(part)) == 1, f"there is not one {part}")
        return self.pids(part)[0]

    def submit(self, *ids: str, seconds: float = 0.0, key: str | None = None, delay: float | None = None) -> None:
        """Submit jobs until they are accepted, as a client does that is told to try again."""
        payload = msgspec.Raw(msgspec.json.encode(seconds))
        asked = [JobRequest(id=one, type="note", payload=payload, key=key, delay=delay) for one in ids]
        while True:
            try:
                self.client.submit(asked, "open", ["write"])
            except (JobsUnavailable, OutcomeUnknown):
                continue
            return

    def job(self, job_id: str) -> Job:
        return self.client.job(job_id).job

    def wait_for(self, job_id: str, *states: str) -> Job:
        wait_until(lambda: self.job(job_id).state in states, f"{job_id} does not become {states}")
        return self.job(job_id)

    def runs(self) -> list[Run]:
        begun: dict[tuple[str, int], float] = {}
        ended: dict[tuple[str, int], float] = {}
        for line in self.ledger.read_text().splitlines():
            word, job_id, attempt, at, _ = line.split()
            times = begun if word == "begin" else ended
            assert (job_id, int(attempt)) not in times, f"an attempt ran twice: {line}"
            times[job_id, int(attempt)] = float(at)
        return [Run(*key, at, ended.get(key)) for key, at in begun.items()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture
def start_jobs(service: Callable[..., Service], tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    clients: list[JobsClient] = []

    def start(**more: str) -> Jobs:
        ledger = tmp_path / "ledger"
        ledger.touch()
        environment = {
            "JOBS_ENABLED": "true",
            "WORKER_JOBS": "tests.crash.job_handlers",
            "WORKER_ENV": f"EVENTVAULT_TEST_LEDGER,{MARK}",
            "EVENTVAULT_TEST_LEDGER": str(ledger),
            "EVENTVAULT_TICK_SECONDS": str(TICK),
            **more,
        }
        running = service(workers=1, environment=environment)
        jobs = Jobs(running, ledger, JobsClient.over(running.folder("STORAGE_DIR")))
        clients.append(jobs.client)
        wait_until(lambda: any(one.type.name == "note" for one in _types(jobs)), "the worker does not come")
        return jobs

    yield start
    for client in clients:
        client.close()


def _types(jobs: Jobs) -> list[KnownType]:
    try:
        return jobs.client.types()
    except EventVaultError:
        return []


def check(jobs: Jobs, accepted: list[str]) -> None:
    """Compare what the dispatcher says with what the handlers wrote down: the invariants."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in jobs.runs():
        runs[run.job].append(run)
    assert set(runs) <= set(accepted)
    for job_id in accepted:
        job = jobs.job(job_id)
        attempts = {each.number: each for each in job.attempts}
        outcomes = [each.outcome for each in job.attempts]
        assert job.state in FINAL_STATES, job
        assert outcomes.count("done") == (job.state == "done"), job
        assert job.tries <= job.max_attempts, job
        assert {run.attempt for run in runs[job_id]} <= set(attempts), f"a run is not on record: {job}"
        assert all(each in ("failed", "lost", "returned", "timeout") for each in outcomes[:-1]), job
        assert job.token is None
        assert job.session is None
    status = jobs.client.status()
    assert status.waiting == status.running == status.held == 0


def test_a_job_goes_through_the_whole_service(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    jobs.submit("one", seconds=0.01)
    done = jobs.wait_for("one", "done")
    assert [attempt.outcome for attempt in done.attempts] == ["done"]
    assert bytes(jobs.client.job("one").result or b"") == b"0.01"
    check(jobs, ["one"])

    def is_shown() -> bool:
        health = jobs.service.get("/api/health").json()
        queue = health["jobQueue"] or {"workers": 0, "states": {}}
        return (health["status"], queue["workers"], queue["states"]) == ("ok", 1, {"done": 1})

    wait_until(is_shown, "health does not show the worker and the job")
    wait_until(lambda: b'eventvault_jobs{state="done"} 1.0' in jobs.service.get("/metrics").body, "no metric shows it")


def test_a_job_runs_on_while_dispatcher_and_store_die(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    worker = jobs.pid("worker")
    jobs.submit("long", seconds=3)
    jobs.wait_for("long", "running")
    dispatcher = jobs.pid("dispatcher")
    os.kill(jobs.pid("store"), signal.SIGKILL)
    jobs.service.wait_until_ready()
    assert jobs.pid("dispatcher") == dispatcher, "the next store adopts the dispatcher"
    os.kill(dispatcher, signal.SIGKILL)
    wait_until(lambda: jobs.pids("dispatcher") not in ([], [dispatcher]), "no other dispatcher is started")
    done = jobs.wait_for("long", "done")
    assert jobs.pid("worker") == worker, "the next dispatcher adopts the worker"
    assert len(done.attempts) == 1
    check(jobs, ["long"])


def test_health_answers_while_the_dispatcher_hangs_and_it_is_replaced(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    hanging = jobs.pid("dispatcher")
    os.kill(hanging, signal.SIGSTOP)

    def codes() -> list[str]:
        began = time.monotonic()
        health = jobs.service.get("/api/health").json()
        assert time.monotonic() - began < 5, "health waits for the dispatcher"
        return [problem["code"] for problem in health["problems"]]

    wait_until(lambda: "jobs_unavailable" in codes(), "health does not name the dispatcher")
    wait_until(lambda: jobs.pids("dispatcher") not in ([], [hanging]), "it is not replaced")
    wait_until(lambda: codes() == [], "health names it still")
    jobs.submit("after")
    jobs.wait_for("after", "done")


def test_the_jobs_of_a_killed_worker_and_of_a_killed_executor_run_again(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    jobs.submit("one", seconds=1)
    jobs.wait_for("one", "running")
    os.kill(jobs.pid("worker"), signal.SIGKILL)
    done = jobs.wait_for("one", "done")
    assert [attempt.outcome for attempt in done.attempts] == ["lost", "done"]
    jobs.submit("two", seconds=3)
    jobs.wait_for("two", "running")
    wait_until(lambda: len(jobs.pids("executor")) == 2, "there are not two executors")
    for pid in jobs.pids("executor"):
        os.kill(pid, signal.SIGKILL)
    done = jobs.wait_for("two", "done")
    assert [attempt.outcome for attempt in done.attempts] == ["failed", "done"]
    jobs.submit("three", seconds=3)
    jobs.wait_for("three", "running")
    os.kill(jobs.pid("nursery"), signal.SIGKILL)
    done = jobs.wait_for("three", "done")
    assert [attempt.outcome for attempt in done.attempts] == ["failed", "done"]
    check(jobs, ["one", "two", "three"])


def test_a_service_that_ends_gives_its_jobs_back_and_goes_on_later(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs(WORKER_DRAIN_SECONDS="0")
    jobs.submit("long", seconds=2)
    jobs.wait_for("long", "running")
    assert jobs.service.stop() == 0
    again = start_jobs()
    done = again.wait_for("long", "done")
    assert [attempt.outcome for attempt in done.attempts] == ["returned", "done"]
    check(again, ["long"])


def test_no_restore_changes_a_job_unless_that_is_asked_for(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    service = jobs.service
    jobs.submit("done")
    jobs.wait_for("done", "done")
    jobs.submit("before", delay=3600)
    assert service.post("/api/events", {"type": "a"}).status == 201
    name = service.post("/api/backup/create").json()["name"]
    jobs.submit("after", delay=3600)
    views = {job_id: jobs.client.job(job_id) for job_id in ("done", "before", "after")}

    def restore(**more: object) -> dict[str, Any]:
        answer: dict[str, Any] = service.post("/api/backup/restore", {"backupName": name, **more}).json()
        return answer

    assert restore(dryRun=True)["plan"]["unfinishedJobs"] == 1
    assert restore()["unfinishedJobs"] == 1
    assert service.post("/api/backup/undo").status == 200
    assert {job_id: jobs.client.job(job_id) for job_id in views} == views
    answer = restore(cancelJobs=True)
    assert (answer["unfinishedJobs"], answer["cancelledJobs"]) == (1, 1)
    assert {job_id: jobs.job(job_id).state for job_id in views} == {
        "done": "done", "before": "pending", "after": "cancelled"
    }  # fmt: skip


def test_the_jobs_of_a_lost_storage_are_held_until_they_are_resumed(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    jobs.submit("ended")
    jobs.wait_for("ended", "done")
    jobs.submit("unfinished", delay=3600)
    assert jobs.service.post("/api/events", {"type": "a"}).status == 201
    assert jobs.service.post("/api/backup/create").status == 200
    assert jobs.service.stop() == 0
    shutil.rmtree(jobs.service.folder("STORAGE_DIR"))
    again = start_jobs(AUTO_RECOVER="true")
    assert again.job("unfinished").state == "held"
    assert again.service.post("/api/jobs/resume", {}).status == 200
    assert again.job("unfinished").state == "pending"
    assert len(again.client.list_jobs([], [], 10, None).jobs) == 1, "what had ended is lost with its storage"


@pytest.fixture(params=[pytest.param(10, id="10"), pytest.param(200, id="200", marks=pytest.mark.soak)])
def faults(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def test_random_kills_and_stops_lose_no_job_and_do_none_twice(start_jobs: Callable[..., Jobs], faults: int) -> None:
    seed = int(os.environ.get("EVENTVAULT_SEED") or random.SystemRandom().randrange(10**9))
    print(f"EVENTVAULT_SEED={seed}")
    chance = random.Random(seed)
    jobs = start_jobs()
    counts: dict[str, int] = defaultdict(int)
    with loading(jobs, seed) as accepted:
        for _ in range(faults):
            fault(jobs, chance, counts)
            time.sleep(chance.uniform(0.05, 0.5))
    print(f"faults: {dict(counts)}; jobs: {len(accepted)}")

    wait_for_quiet(jobs)
    check(jobs, accepted)


def wait_for_quiet(jobs: Jobs) -> None:
    """Wait until no job is unfinished, however many there are, while some of them end."""
    seen: list[int] = []

    def ends_or_goes_on() -> bool:
        try:
            status = jobs.client.status()
        except EventVaultError:
            return False
        seen.append(status.waiting + status.running)
        return seen[-1] == 0 or seen[-1] < seen[0]

    while not seen or seen[-1]:
        seen.clear()
        wait_until(ends_or_goes_on, "jobs are unfinished, and none ends")


def fault(jobs: Jobs, chance: random.Random, counts: dict[str, int]) -> None:
    """Kill one process, or stop it for up to two leases."""
    part = chance.choice(["store", "dispatcher", "worker", "nursery", "executor"])
    pids = jobs.pids(part)
    if not pids:
        return
    pid = chance.choice(sorted(pids))
    how = chance.choice(["kill", "stop"])
    counts[f"{how} {part}"] += 1
    try:
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
            return
        os.kill(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.05, 2 * LEASE))
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


class loading:  # noqa: N801 - a context manager
    """Submit jobs in the meantime; gives the list of those that were accepted."""

    def __init__(self, jobs: Jobs, seed: int) -> None:
        self._jobs = jobs
        self._chance = random.Random(seed + 1)
        self._accepted: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self._accepted

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            first = len(self._accepted)
            ids = [f"j{first + number}" for number in range(self._chance.randrange(1, 6))]
            key = self._chance.choice([None] * 8 + ["a", "b"])
            self._jobs.submit(*ids, seconds=self._chance.choice([0] * 12 + [0.01, 0.3]), key=key)
            self._accepted.extend(ids)

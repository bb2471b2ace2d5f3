"""Jobs survive the end, and the hanging, of each process that has to do with them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import dispatcher
from eventvault import data_folders
from eventvault.errors import EventVaultError
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import Job, JobRequest, JobSchedule
from eventvault.rpc import sockets
from eventvault.settings import Settings
from eventvault.store.process import dispatcher as keepers
from eventvault.store.process.dispatcher import DispatcherKeeper
from tests.clock_shim import SettableClock
from tests.crash.job_invariants import check_history
from tests.crash.job_series import Series
from tests.crash.jobs_of_service import CLIENT_SECONDS, HANDLERS, Jobs, differences, lasting
from tests.processes import MARK, wait_until
from tests.restoring import make_archive
from tests.schedule import series_seed
from tests.service import Service

TICK = 0.4
"""A sixth of a lease. The lease of a worker that gets little time for a while must not end."""


@pytest.fixture
def start_jobs(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Jobs]]:
    """Call it to start the service with jobs. more: settings."""
    started: list[Jobs] = []

    def start(**more: str) -> Jobs:
        ledger = tmp_path / "ledger"
        ledger.touch()
        environment = {
            "JOBS_ENABLED": "true",
            "WORKER_JOBS": HANDLERS,
            "WORKER_ENV": f"EVENTVAULT_TEST_LEDGER,{MARK}",
            "EVENTVAULT_TEST_LEDGER": str(ledger),
            "EVENTVAULT_TICK_SECONDS": str(TICK),
            **more,
        }
        running = service(workers=1, environment=environment)
        client = JobsClient.over(running.folder("STORAGE_DIR"), patience=CLIENT_SECONDS)
        jobs = Jobs(running, ledger, client, {**settings_environment, **environment})
        started.append(jobs)
        jobs.wait_for_workers()
        return jobs

    yield start
    for jobs in started:
        jobs.close()


def check(jobs: Jobs, accepted: list[str]) -> None:
    """Compare what the dispatcher says with what the handlers wrote down."""
    runs = jobs.runs()
    assert {run.job for run in runs} <= set(accepted)
    for job_id in accepted:
        check_history(jobs.job(job_id), [run for run in runs if run.job == job_id])
    status = jobs.client.status()
    assert status.waiting == status.running == status.held == 0


def waiting_job(name: str, folder: Path) -> JobRequest:
    """A job that runs until `let_go`, however long a busy machine takes for what is done to it meanwhile."""
    return JobRequest(id=name, type="wait", payload=msgspec.Raw(msgspec.json.encode(str(folder / f"{name} may end"))))


def begin(jobs: Jobs, name: str, folder: Path) -> None:
    """Accept a `waiting_job`, and wait until its handler runs: one that is `running` may still wait for an executor."""
    jobs.accept([waiting_job(name, folder)])
    wait_until(lambda: any(run.job == name for run in jobs.runs()), f"the handler of {name} does not begin")


def kill(jobs: Jobs, part: str) -> None:
    """Kill the processes of a part, and wait for the end of all executors: one that lives on could end its job."""
    executors = set(jobs.pids("executor"))
    for pid in jobs.pids(part):
        os.kill(pid, signal.SIGKILL)
    # Not by their part: one whose parent is about to end does not look like an executor any more.
    wait_until(lambda: executors.isdisjoint(jobs.service.processes()), f"executors outlive the {part}")


def let_go(jobs: Jobs, name: str, folder: Path) -> Job:
    """Let a `waiting_job` end. Returns it once it is done."""
    (folder / f"{name} may end").touch()
    return jobs.wait_for(name, "done")


def outcomes(job: Job) -> list[str | None]:
    return [attempt.outcome for attempt in job.attempts]


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


def test_a_job_runs_on_while_dispatcher_and_store_die(start_jobs: Callable[..., Jobs], tmp_path: Path) -> None:
    jobs = start_jobs(EVENTVAULT_TICK_SECONDS="2")  # no lease of this test is to end
    worker = jobs.pid("supervisor")
    begin(jobs, "long", tmp_path)
    dispatcher = jobs.pid("dispatcher")
    os.kill(jobs.pid("store"), signal.SIGKILL)
    jobs.service.wait_until_ready()
    assert jobs.pid("dispatcher") == dispatcher, "the next store adopts the dispatcher"
    os.kill(dispatcher, signal.SIGKILL)
    wait_until(lambda: jobs.pids("dispatcher") not in ([], [dispatcher]), "no other dispatcher is started")
    assert outcomes(let_go(jobs, "long", tmp_path)) == ["done"]
    assert jobs.pid("supervisor") == worker, "the next dispatcher adopts the worker"
    check(jobs, ["long"])


def test_health_answers_while_the_dispatcher_hangs_and_it_is_replaced(start_jobs: Callable[..., Jobs]) -> None:
    jobs = start_jobs()
    wait_until(lambda: jobs.service.get("/api/health").json()["jobQueue"], "health knows of no dispatcher")
    hanging = {jobs.pid("dispatcher")}

    def let_all_hang() -> None:
        """One that hangs is soon killed, and its successor may answer before anybody on a busy machine asks health."""
        if sockets.listens(jobs.service.folder("STORAGE_DIR"), data_folders.JOBS_SOCKET):
            hanging.update(jobs.pids("dispatcher"))
        for pid in hanging:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def codes() -> list[str]:
        began = time.monotonic()
        health = jobs.service.get("/api/health", again=False).json()
        assert time.monotonic() - began < 12, "health waits for the dispatcher, as a request does for 15 s"
        return [problem["code"] for problem in health["problems"]]

    def is_named() -> bool:
        let_all_hang()
        return "jobs_unavailable" in codes()

    wait_until(is_named, "health does not name the dispatcher")
    wait_until(lambda: set(jobs.pids("dispatcher")) - hanging, "it is not replaced")
    wait_until(lambda: codes() == [], "health names it still")
    jobs.submit("after")
    jobs.wait_for("after", "done")


def test_a_dispatcher_that_hangs_before_it_listens_is_replaced_and_ends_with_the_service(
    settings_with: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, hung = tmp_path / "hangs", tmp_path / "hung"
    script = (
        f"if rm {hangs} 2>/dev/null; then echo $$ > {hung}; kill -STOP $$; fi; exec {shlex.join(dispatcher.COMMAND)} $@"
    )
    settings = settings_with({"JOBS_ENABLED": "true", "JOBS_LOCAL_CONCURRENCY": "0"})
    client = JobsClient.over(settings.storage_dir)
    monkeypatch.setattr(keepers, "READY_SECONDS", 0.2)

    def start(service: str) -> tuple[DispatcherKeeper, subprocess.Popen[bytes]]:
        """Return what starts the dispatcher, and the one that hangs."""
        hung.unlink(missing_ok=True)
        hangs.touch()
        keeper = DispatcherKeeper(settings, ["sh", "-c", script, "sh"], service)
        keeper.start()
        wait_until(lambda: hung.exists() and hung.read_text(), "no dispatcher is started")
        child = keeper._child
        assert child is not None
        return keeper, child

    def answers() -> bool:
        with suppress(EventVaultError):
            client.status()
            return True
        return False

    replacing, first = start("service-1")
    with monkeypatch.context() as patch:
        patch.setattr(keepers, "TURN_SECONDS", 0.5)
        wait_until(lambda: first.poll() is not None, "it is not killed")
    wait_until(answers, "it is not replaced")
    replacing.stop(end_dispatcher=True)
    wait_until(lambda: replacing._child is None or replacing._child.poll() is not None, "its successor does not end")
    ending, second = start("service-2")
    ending.stop(end_dispatcher=True)
    wait_until(lambda: second.poll() is not None, "it outlives the service")
    client.close()


def test_a_leap_of_the_clock_runs_no_job_early_unless_it_is_accepted(
    start_jobs: Callable[..., Jobs], tmp_path: Path
) -> None:
    clock = SettableClock(tmp_path)
    jobs = start_jobs(**clock.environment)
    jobs.submit("ended")
    jobs.wait_for("ended", "done")
    jobs.submit("delayed", delay=3600)
    storage = jobs.service.folder("STORAGE_DIR")
    wait_until((storage / "clock.json").exists, "the clock is not noted")

    def codes() -> list[str]:
        return [problem["code"] for problem in jobs.service.get("/api/health").json()["problems"]]

    clock.set_offset(10 * 365 * 86_400)
    wait_until(lambda: codes() == ["clock_ahead"], "the leap is not named")
    before = jobs.pid("dispatcher")
    os.kill(before, signal.SIGBUS)  # as a bad sector of a table does
    wait_until(lambda: jobs.pids("dispatcher") not in ([], [before]), "no other dispatcher is started")
    assert "--distrust-tables" in jobs.service.processes()[jobs.pid("dispatcher")]
    jobs.submit("next")
    jobs.wait_for("next", "done")
    assert (jobs.job("ended").state, jobs.job("delayed").state) == ("done", "pending")
    clock.set_offset(7200)
    wait_until(lambda: codes() == ["clock_ahead"], "a smaller leap is not named")
    assert jobs.service.post("/api/problems/clock_ahead/accept").status == 200
    jobs.wait_for("delayed", "done")


def test_the_jobs_of_a_killed_worker_and_of_a_killed_executor_run_again(
    start_jobs: Callable[..., Jobs], tmp_path: Path
) -> None:
    jobs = start_jobs()
    begin(jobs, "one", tmp_path)
    kill(jobs, "supervisor")
    assert outcomes(let_go(jobs, "one", tmp_path)) == ["lost", "done"]
    begin(jobs, "two", tmp_path)
    wait_until(lambda: len(jobs.pids("executor")) == 2, "there are not two executors")
    kill(jobs, "executor")
    assert outcomes(let_go(jobs, "two", tmp_path)) == ["failed", "done"]
    begin(jobs, "three", tmp_path)
    kill(jobs, "nursery")
    assert outcomes(let_go(jobs, "three", tmp_path)) == ["failed", "done"]
    check(jobs, ["one", "two", "three"])


def test_a_service_that_ends_gives_its_jobs_back_and_goes_on_later(
    start_jobs: Callable[..., Jobs], tmp_path: Path
) -> None:
    jobs = start_jobs(WORKER_DRAIN_SECONDS="0")
    begin(jobs, "long", tmp_path)
    assert jobs.service.stop() == 0
    again = start_jobs()
    assert outcomes(let_go(again, "long", tmp_path)) == ["returned", "done"]
    check(again, ["long"])


def test_no_restore_changes_a_job_unless_that_is_asked_for(start_jobs: Callable[..., Jobs], tmp_path: Path) -> None:
    """By name, to a moment, undone, of another installation's archive: no key of `jobs_db` changes but ticks and

    sessions, and no job comes with an archive.
    """
    jobs = start_jobs()
    service = jobs.service
    jobs.submit("done")
    jobs.wait_for("done", "done")
    jobs.submit("before", delay=3600)
    assert service.post("/api/events", [{"type": "a"}, {"type": "b"}]).status == 201
    name = service.post("/api/backup/create").json()["name"]
    jobs.submit("after", delay=3600)
    jobs.client.put_schedule(JobSchedule(name="yearly", type="note", cron="0 0 1 1 *"))
    before = jobs.image()

    def restore(**how: object) -> dict[str, Any]:
        reply = service.post("/api/backup/restore", how)
        assert reply.status == 200, reply.body
        answer: dict[str, Any] = reply.json()
        return answer

    assert restore(backupName=name, dryRun=True)["plan"]["unfinishedJobs"] == 1
    assert restore(backupName=name)["unfinishedJobs"] == 1
    assert restore(sequence=1)["unfinishedJobs"] == 1
    assert service.post("/api/backup/undo").status == 200
    theirs = make_archive(tmp_path / "theirs.tar.gz").read_bytes()
    assert service.post("/api/backup/upload?name=theirs.tar.gz", theirs).status == 201
    assert restore(backupName="theirs.tar.gz")["events"] == 3
    assert differences(lasting(before), lasting(jobs.image())) == {}
    answer = restore(backupName=name, cancelJobs=True)
    assert (answer["unfinishedJobs"], answer["cancelledJobs"]) == (1, 1)
    assert {job_id: jobs.job(job_id).state for job_id in ("done", "before", "after")} == {
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


def test_after_damage_of_the_database_of_jobs_the_copy_is_taken_over(
    start_jobs: Callable[..., Jobs], service: Callable[..., Service]
) -> None:
    """As docs/jobs.md says; events go on meanwhile."""
    jobs = start_jobs()
    jobs.submit("unfinished", delay=3600)
    assert jobs.service.stop() == 0
    database = jobs.service.folder("STORAGE_DIR") / "jobs_db"
    (manifest,) = database.glob("MANIFEST-*")
    manifest.write_bytes(b"no edit" + manifest.read_bytes()[7:])
    damaged = service(workers=1, environment={"JOBS_ENABLED": "true"})
    assert damaged.post("/api/events", {"type": "a"}).status == 201
    for reply in (damaged.get("/api/jobs"), damaged.post("/api/jobs", {"type": "export", "payload": {}})):
        assert (reply.status, reply.json()["code"]) == (503, "jobs_damaged"), reply.body
        assert "move STORAGE_DIR/jobs_db away" in reply.json()["hint"]

    def codes() -> list[str]:
        return [problem["code"] for problem in damaged.get("/api/health").json()["problems"]]

    wait_until(lambda: codes() == ["jobs_damaged"], "health does not name the damage")
    assert damaged.stop() == 0
    database.rename(database.with_name("jobs_db.damaged"))
    again = start_jobs()
    assert again.job("unfinished").state == "held"
    assert again.service.post("/api/jobs/resume", {}).status == 200
    assert again.job("unfinished").state == "pending"


@pytest.mark.parametrize("count", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)])
def test_random_kills_and_stops_lose_no_job_and_do_none_twice(
    start_jobs: Callable[..., Jobs], tmp_path: Path, count: int
) -> None:
    """The services own worker and one more, over the socket; `tests.crash.job_invariants` says what is checked."""
    clock = SettableClock(tmp_path)
    jobs = start_jobs(**clock.environment)

    def keep() -> None:
        if not jobs.living_workers():
            jobs.start_worker(tmp_path / "worker.log")

    keep()
    series = Series(jobs, lease=6 * TICK, seed=series_seed(), accept=jobs.accept, keep=keep, clock=clock)
    series.run(count)

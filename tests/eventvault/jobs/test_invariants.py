"""The invariants of jobs, in random series of everything that can happen, in any order and at any moment."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from eventvault.jobs import commands, takeover
from eventvault.jobs.job import JobSchedule
from eventvault.jobs.queue import QueueLimits
from tests.eventvault.jobs.checks import check_database, check_runs
from tests.eventvault.jobs.rig import Worker, World, foreign_job, request

pytestmark = pytest.mark.slow

TYPES = ("report", "invoice", "nobody")
WORKERS = ((("report",), 1), (("report", "invoice"), 2))
SCHEDULE = JobSchedule(name="nightly", type="report", cron="*/5 * * * *")
MAX_QUIET_TURNS = 400


class JobsOfOneInstallation(RuleBasedStateMachine):
    """Kills, lost messages, clocks that jump, failed writes; what a user was promised holds after each of them."""

    @initialize(positions=st.booleans())
    def start(self, positions: bool) -> None:
        self.world = World(positions=positions, limits=QueueLimits(keep_max=1_000))
        self.accepted: set[str] = set()
        self.finals: dict[str, str] = {}
        self.firings: set[str] = set()
        for types, concurrency in WORKERS:
            self.world.worker(*types, concurrency=concurrency, schedules=[SCHEDULE])

    def worker(self, number: int) -> Worker:
        return self.world.workers[number % len(self.world.workers)]

    # What users do

    @rule(
        number=st.integers(0, 30), job_type=st.sampled_from(TYPES), key=st.sampled_from([None, None, "k", "l"]),
        unique=st.sampled_from([None, None, None, "u"]), delay=st.sampled_from([None, 0.0, 3.0, 600.0]),
        priority=st.sampled_from([0, 0, 0, 9]), max_attempts=st.integers(1, 3),
    )  # fmt: skip
    def submit(self, number: int, job_type: str, **members: object) -> None:
        wanted = request(f"j{number}", job_type, **members)
        call = self.world.dispatcher.post(lambda queue: commands.submit(queue, [wanted], "me"))
        self.world.turn()
        if call.answered.is_set() and call.error is None:
            (result,) = call.result
            self.accepted.add(result.id)

    @rule(number=st.integers(0, 30))
    def cancel(self, number: int) -> None:
        self.world.ask(lambda queue: commands.cancel(queue, [f"j{number}"]))

    @rule(number=st.integers(0, 30))
    def retry(self, number: int) -> None:
        call = self.world.dispatcher.post(lambda queue: commands.retry(queue, [f"j{number}"]))
        self.world.turn()
        if f"j{number}" in self.finals and self.finals[f"j{number}"] != "done":
            del self.finals[f"j{number}"]
        del call

    @rule(job_type=st.sampled_from(["report", None]), is_paused=st.booleans())
    def pause(self, job_type: str | None, is_paused: bool) -> None:
        self.world.ask(lambda queue: commands.pause(queue, job_type) if is_paused else commands.resume(queue, job_type))

    @rule(number=st.integers(100, 130), key=st.sampled_from([None, "k"]))
    def bring_back(self, number: int, key: str | None) -> None:
        """A job of another `jobs_db` is imported."""
        job = foreign_job(f"j{number}", key)
        call = self.world.dispatcher.post(lambda queue: takeover.hold(queue, job, b"null"))
        self.world.turn()
        if call.answered.is_set() and call.error is None and call.result:
            self.accepted.add(job.id)

    @rule(number=st.integers(200, 230), differs=st.booleans())
    def produce(self, number: int, differs: bool) -> None:
        """A message comes by the topic `jobs`, perhaps one of an id that is there."""
        self.world.wire.produce(b'{"id": "j%d", "type": "report", "payload": %d}' % (number, number + 1_000 * differs))
        self.accepted.add(f"j{number}")

    @rule()
    def produce_no_job(self) -> None:
        self.world.wire.produce(b"no job")

    # What workers do

    @rule(number=st.integers(0, 1))
    def take(self, number: int) -> None:
        self.worker(number).take()

    @rule(number=st.integers(0, 1), outcome=st.sampled_from(["done", "done", "failed", "fail", "timeout", "returned"]))
    def finish(self, number: int, outcome: str) -> None:
        if self.worker(number).running:
            self.worker(number).finish(outcome=outcome)

    @rule(number=st.integers(0, 1))
    def report_start(self, number: int) -> None:
        if self.worker(number).running:
            self.worker(number).started(next(iter(self.worker(number).running)))

    @rule(number=st.integers(0, 1))
    def beat(self, number: int) -> None:
        self.worker(number).beat()

    @rule(number=st.integers(0, 1))
    def hello(self, number: int) -> None:
        self.worker(number).hello()

    @rule(number=st.integers(0, 1))
    def kill_worker(self, number: int) -> None:
        self.worker(number).kill()

    @rule(number=st.integers(0, 1))
    def drain_worker(self, number: int) -> None:
        self.worker(number).bye()

    # What the machine, the disk, the wire and the clocks do

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @rule(count=st.integers(1, 7))
    def tick(self, count: int) -> None:
        for _ in range(count):
            self.world.wire.tick()
            self.world.turn()

    @rule(where=st.sampled_from(["before", "after", "send"]))
    def kill_dispatcher_in_a_turn(self, where: str) -> None:
        if where == "send":
            self.world.wire.kills_before_send = True
        else:
            self.world.database.kill = where

    @rule()
    def kill_dispatcher(self) -> None:
        self.world.start()

    @rule(failures=st.lists(st.booleans(), min_size=1, max_size=5))
    def fail_writes(self, failures: list[bool]) -> None:
        self.world.database.failures = failures

    @rule(drops=st.booleans())
    def lose_work(self, drops: bool) -> None:
        self.world.wire.drops_work = drops

    @rule(seconds=st.sampled_from([0.5, 2.0, 60.0, 4_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.clocks.pass_seconds(seconds)

    @rule(seconds=st.sampled_from([-3_600, -86_400, 3_600, 86_400]))
    def set_clock(self, seconds: int) -> None:
        self.world.clocks.now += seconds * 1_000_000

    # What holds

    @invariant()
    def the_database_is_consistent(self) -> None:
        check_database(self.world.database)

    @invariant()
    def runs_are_on_record(self) -> None:
        check_runs(self.world)

    @invariant()
    def what_is_final_stays_so(self) -> None:
        records = self.world.database.records()
        for job_id, state in self.finals.items():
            assert records[job_id].state == state
        self.finals |= {job.id: job.state for job in records.values() if job.is_final}

    @invariant()
    def each_firing_is_one_job(self) -> None:
        fired = [job.id for job in self.world.database.records().values() if job.schedule == SCHEDULE.name]
        assert self.firings <= set(fired)
        self.firings |= set(fired)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.database.failures, world.wire.drops_work = [], False
        world.database.kill, world.wire.kills_before_send = "", False
        world.turns(10)
        for worker in world.workers:
            worker.schedules = []
            worker.hello()
        world.ask(lambda queue: commands.resume(queue, None))
        world.worker("nobody")
        for _ in range(MAX_QUIET_TURNS):
            self.quiet_turn()
            if all(job.is_final for job in world.database.records().values()):
                break
        records = world.database.records()
        assert {job.id: job.state for job in records.values() if not job.is_final} == {}
        assert self.accepted <= set(records)
        check_database(world.database)
        check_runs(world)

    def quiet_turn(self) -> None:
        """Everybody does what is to be done, and every handler succeeds."""
        self.world.clocks.pass_seconds(3_600)
        self.world.wire.tick()
        for worker in self.world.workers:
            worker.beat()
            worker.take()
            while worker.running:
                worker.finish()
        self.world.turns(2)


def series(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def test_the_invariants_hold_in_short_series() -> None:
    run_state_machine_as_test(JobsOfOneInstallation, settings=series(60, 40))


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_the_invariants_hold_in_long_series() -> None:
    run_state_machine_as_test(JobsOfOneInstallation, settings=series(int(os.environ.get("JOBS_SERIES", "3000")), 120))

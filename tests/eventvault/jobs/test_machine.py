"""Each arrow of a job's life, by a dispatcher and workers that are moved by hand."""

from __future__ import annotations

import msgspec
import pytest

from eventvault.errors import JobQueueFull
from eventvault.jobs import commands, keys, messages
from eventvault.jobs.dispatch import IDLE_SECONDS
from eventvault.jobs.job import JobType
from eventvault.jobs.queue import QueueLimits
from eventvault.problems import Problem
from tests.eventvault.jobs.checks import check_database, check_runs
from tests.eventvault.jobs.rig import Worker, World, request


@pytest.fixture(params=[False, True], ids=["socket", "topic"])
def world(request: pytest.FixtureRequest) -> World:
    return World(positions=request.param)


def done(world: World, job_id: str) -> None:
    """Have the only worker run the job that it has to its end."""
    worker = world.workers[-1]
    worker.take()
    worker.finish()
    world.turn()
    assert world.state(job_id) == "done"


def test_a_job_is_sent_in_the_turn_that_accepts_it_and_is_done_when_the_worker_says_so(world: World) -> None:
    worker = world.worker("report")
    answer = world.submit(request("a", payload=msgspec.Raw(b'{"x":1}')))
    assert answer == [msgspec.convert({"id": "a", "state": "pending"}, type(answer[0]))]
    assert world.state("a") == "sent"

    worker.take()
    assert [bytes(run.message.payload) for run in world.runs] == [b'{"x":1}']
    worker.finish()
    world.turn()

    job = world.job("a")
    assert (job.state, job.attempt, job.tries) == ("done", 1, 0)
    assert [attempt.outcome for attempt in job.attempts] == ["done"]
    assert world.jobs.job("a").result == msgspec.Raw(b"null")
    check_database(world.database)


def test_a_job_waits_until_it_is_due(world: World) -> None:
    world.worker("report")
    world.submit(request("a", delay=5.0))
    world.turns()
    assert world.state("a") == "pending"
    world.clocks.pass_seconds(5)
    world.turn()
    assert world.state("a") == "sent"


def test_a_job_waits_for_a_worker_that_knows_its_type(world: World) -> None:
    world.worker("other")
    world.submit(request("a"))
    assert world.state("a") == "pending"
    world.worker("report")
    world.turn()
    assert world.state("a") == "sent"


def test_the_most_urgent_job_is_sent_first_and_then_the_oldest(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"), request("b"), request("c", priority=9))
    world.turn()
    for job_id in ("c", "a", "b"):
        assert world.state(job_id) == "sent"
        done(world, job_id)
    assert [run.message.job for run in world.runs] == ["c", "a", "b"]
    assert worker.running == {}


def test_a_type_whose_workers_are_busy_holds_up_no_other(world: World) -> None:
    world.worker("slow")
    world.worker("quick")
    world.submit(request("a", "slow", priority=9), request("b", "slow", priority=9), request("c", "quick"))
    assert [world.state(job_id) for job_id in "abc"] == ["sent", "pending", "sent"]


def test_a_job_that_fails_is_tried_again_later_and_dies_after_its_last_try(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a", max_attempts=3))
    for number, delay in ((1, 1.0), (2, 2.0)):
        worker.take()
        worker.finish(outcome="failed")
        world.turn()
        job = world.job("a")
        assert (job.state, job.tries, job.run_at - world.clocks.now) == ("pending", number, delay * 1e6)
        world.clocks.pass_seconds(delay)
        world.turn()
    worker.take()
    worker.finish(outcome="timeout")
    world.turn()
    job = world.job("a")
    assert (job.state, job.tries, job.error and job.error.code) == ("dead", 3, "timeout")
    assert [attempt.outcome for attempt in job.attempts] == ["failed", "failed", "timeout"]
    check_database(world.database)


def test_a_handler_chooses_when_it_is_tried_again_or_that_it_is_not(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish(outcome="failed", after=60.0)
    world.turn()
    assert world.job("a").run_at == world.clocks.now + 60_000_000
    world.clocks.pass_seconds(60)
    world.turn()
    worker.take()
    worker.finish(outcome="fail")
    world.turn()
    assert world.state("a") == "dead"


def test_the_jobs_of_a_worker_that_is_not_heard_any_more_go_to_another_one(world: World) -> None:
    first = world.worker("report")
    world.submit(request("a"))
    first.take()
    session, token = first.session, next(iter(first.running))
    world.lose_lease()
    job = world.job("a")
    assert (job.state, job.tries) == ("pending", 1)
    assert [attempt.outcome for attempt in job.attempts] == ["lost"]

    first.finish(token)  # it was stopped, and wakes up
    world.turns()
    assert world.state("a") == "pending"
    assert world.dispatcher.status().refused_reports == 1
    first.take()
    assert first.session != session, "it was told that its session is over"
    world.turn()
    world.clocks.pass_seconds(2)
    world.turn()
    done(world, "a")
    check_database(world.database)
    check_runs(world)


def test_no_lease_ends_while_no_tick_is_read(world: World) -> None:
    world.worker("report").take()
    world.submit(request("a"))
    world.clocks.pass_seconds(86_400)
    world.turns(10)
    assert world.state("a") == "sent"


def test_a_worker_that_beats_keeps_its_jobs(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    for _ in range(20):
        world.wire.tick()
        worker.beat()
        world.turn()
    assert world.state("a") == "sent"
    assert len(world.runs) == 1


def test_what_was_lost_on_its_way_is_sent_again_once_beats_do_not_list_it(world: World) -> None:
    worker = world.worker("report")
    world.wire.drops_work = True
    world.submit(request("a"))
    world.wire.drops_work = False
    for _ in range(6):
        worker.take()
        assert not worker.running
        world.wire.tick()
        worker.beat()
        world.turn()
    worker.take()
    assert [run.message.attempt for run in world.runs] == [1]


def test_what_a_worker_hands_back_is_sent_again_without_a_try(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish(outcome="returned")
    world.turn()
    job = world.job("a")
    assert (job.state, job.attempt, job.tries) == ("sent", 2, 0)


def test_a_worker_that_says_good_bye_has_none_of_its_jobs(world: World) -> None:
    worker = world.worker("report", concurrency=2)
    world.submit(request("a"), request("b"))
    worker.take()
    world.submit(request("c"))
    worker.bye()
    world.turns()
    assert sorted(world.state(job_id) for job_id in "abc") == ["pending", "sent", "sent"]
    assert all(world.job(job_id).tries == 0 for job_id in "abc")
    check_database(world.database)


def test_a_pending_job_is_cancelled_at_once_and_a_running_one_by_its_worker(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"), request("b"))
    worker.take()
    answer = world.ask(lambda queue: commands.cancel(queue, ["a", "b", "c"]))
    assert [(each.id, each.outcome) for each in answer] == [("a", "stopping"), ("b", "changed"), ("c", "unknown")]
    worker.take()
    world.turn()
    assert [world.state(job_id) for job_id in "ab"] == ["cancelled", "cancelled"]
    check_database(world.database)


def test_a_result_that_comes_before_the_cancellation_wins(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish()
    world.ask(lambda queue: commands.cancel(queue, ["a"]))
    world.turns()
    assert world.state("a") == "done"


def test_a_cancelled_job_of_a_lost_worker_is_not_tried_again(world: World) -> None:
    world.worker("report").take()
    world.submit(request("a"))
    world.ask(lambda queue: commands.cancel(queue, ["a"]))
    world.lose_lease()
    assert world.state("a") == "cancelled"


def test_a_dead_or_cancelled_job_is_retried_with_all_its_tries(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a", max_attempts=1))
    worker.take()
    worker.finish(outcome="failed")
    world.turn()
    assert world.state("a") == "dead"
    answer = world.ask(lambda queue: commands.retry(queue, ["a", "x"]))
    assert [(each.id, each.outcome) for each in answer] == [("a", "changed"), ("x", "unknown")]
    job = world.job("a")
    assert (job.state, job.tries, job.attempt) == ("sent", 0, 2)
    done(world, "a")
    check_database(world.database)


def test_a_second_job_of_an_id_is_a_duplicate_and_says_whether_it_differs(world: World) -> None:
    world.submit(request("a"))
    same, other = world.submit(request("a"), request("a", priority=1))
    assert (same.duplicate, same.differs) == (True, False)
    assert (other.duplicate, other.differs) == (True, True)


def test_one_unfinished_job_has_a_unique_text(world: World) -> None:
    world.worker("report")
    world.submit(request("a", unique="u"))
    (second,) = world.submit(request("b", unique="u"))
    assert (second.id, second.duplicate) == ("a", True)
    done(world, "a")
    (third,) = world.submit(request("c", unique="u"))
    assert (third.id, third.duplicate) == ("c", False)
    check_database(world.database)


def test_jobs_of_one_key_run_one_at_a_time_in_the_order_of_their_creation(world: World) -> None:
    worker = world.worker("report", concurrency=3)
    world.submit(request("a", key="k"), request("b", key="k", priority=9), request("c", key="l"))
    world.submit(request("d", key="k"))
    assert [world.state(job_id) for job_id in "abcd"] == ["sent", "pending", "sent", "pending"]
    worker.take()
    worker.finish(world.job("a").token, "failed")
    world.turns()
    assert world.state("b") == "pending", "a job that fails holds the others up until it is final"
    world.clocks.pass_seconds(1)
    world.turn()
    worker.take()
    worker.finish(world.job("a").token)
    world.turn()
    assert [world.state(job_id) for job_id in "abd"] == ["done", "sent", "pending"]
    check_database(world.database)


def test_no_job_of_a_paused_type_is_sent(world: World) -> None:
    world.worker("report", "other")
    assert world.ask(lambda queue: commands.pause(queue, "report")) == ["report"]
    world.submit(request("a"), request("b", "other"))
    assert [world.state(job_id) for job_id in "ab"] == ["pending", "sent"]
    world.start()
    world.turn()
    assert world.state("a") == "pending"
    world.worker("report")
    world.ask(lambda queue: commands.resume(queue, "report"))
    assert world.state("a") == "sent"


def test_a_pause_of_all_types_holds_for_those_that_come_later_until_it_ends(world: World) -> None:
    assert world.ask(lambda queue: commands.pause(queue, None)) == []
    world.worker("report", "other", concurrency=2)
    world.submit(request("a"), request("b", "other"))
    world.start()
    world.worker("third")
    world.submit(request("c", "third"))
    assert [world.state(job_id) for job_id in "abc"] == ["pending"] * 3
    assert {each.type.name for each in world.jobs.types() if each.is_paused} == {"report", "other", "third"}

    assert world.ask(lambda queue: commands.resume(queue, "other")) == ["report", "third"]
    assert [world.state(job_id) for job_id in "abc"] == ["pending", "sent", "pending"]
    world.worker("fourth")
    world.submit(request("d", "fourth"))
    assert world.state("d") == "pending", "one type is resumed, not those that come"

    assert world.ask(lambda queue: commands.resume(queue, None)) == []
    world.worker("fifth")
    world.submit(request("e", "fifth"))
    assert [world.state(job_id) for job_id in "acde"] == ["sent"] * 4
    assert world.database.keys_of(keys.PAUSED) == []


def test_a_type_that_no_worker_has_named_is_not_late_while_all_are_paused(world: World) -> None:
    world.ask(lambda queue: commands.pause(queue, None))
    world.submit(request("a"))
    world.clocks.pass_seconds(60)
    world.turn()
    assert world.dispatcher.status().oldest_waiting is None


def test_a_session_gets_jobs_in_advance_by_how_long_they_take(world: World) -> None:
    worker = world.worker("report", concurrency=2)
    world.submit(*(request(f"a{number}") for number in range(200)))
    assert sum(job.state == "sent" for job in world.database.records().values()) == 2
    worker.take()
    worker.finish(next(iter(worker.running)))
    world.turn()
    assert sum(job.state == "sent" for job in world.database.records().values()) == 2 + 20


def test_what_waits_in_a_busy_session_is_asked_back_for_an_idle_one(world: World) -> None:
    first = world.worker("report")
    world.submit(request("a"))
    done(world, "a")
    world.submit(request("b"), request("c"))
    first.take()
    assert [world.state(job_id) for job_id in "bc"] == ["sent", "sent"]
    second = world.worker("report")
    world.turn()
    world.clocks.pass_seconds(IDLE_SECONDS)
    world.turn()
    first.take()
    world.turn()
    assert (world.job("b").session, world.job("c").session) == (first.session, second.session)
    assert world.job("c").tries == 0


def test_a_dispatcher_that_is_killed_after_the_write_sends_when_it_starts(world: World) -> None:
    worker = world.worker("report")
    world.wire.kills_before_send = True
    world.submit(request("a"))
    assert world.state("a") == "sent"
    world.turn()
    worker.take()
    assert [run.message.job for run in world.runs] == ["a"]


def test_the_same_message_twice_runs_once(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish()
    del world.wire.reports[-1]  # the outcome is lost with a dispatcher that is killed
    world.start()
    world.turn()
    worker.take()
    world.turn()
    assert world.state("a") == "done"
    assert len(world.runs) == 1


def test_a_failed_write_is_repeated_after_a_reopening(world: World) -> None:
    worker = world.worker("report")
    for landed in (False, True):
        job_id = f"a{landed}"
        world.database.failures = [landed]
        world.submit(request(job_id))
        assert world.state(job_id) == "sent"
        done(world, job_id)
    assert worker.running == {}
    check_database(world.database)


def test_what_workers_report_on_a_full_disk_counts_once_there_is_room(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.finish()
    world.database.failures = [False] * 6
    world.turn()
    assert world.state("a") == "sent"
    call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("b")], "me"))
    world.turns(8)
    assert world.state("a") == "done"
    assert call.answered.is_set()
    check_database(world.database)


def test_a_full_queue_takes_no_job_and_says_so() -> None:
    world = World(limits=QueueLimits(max_unfinished=2))
    world.submit(request("a"))
    call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("b"), request("c")], "me"))
    world.turn()
    assert isinstance(call.error, JobQueueFull)
    world.submit(request("b"))
    assert sorted(world.database.records()) == ["a", "b"]


def test_the_newest_hello_says_what_a_type_is(world: World) -> None:
    worker = world.worker("report")
    worker.types = [JobType(name="report", max_attempts=9, timeout=7.0)]
    worker.hello()
    world.turn()
    world.submit(request("a"))
    assert (world.job("a").max_attempts, world.job("a").timeout) == (9, 7.0)
    world.start()
    assert world.dispatcher.types()["report"].timeout == 7.0


def test_a_job_whose_handler_takes_long_is_running(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    token = next(iter(worker.running))
    worker.started(token)
    worker.report(
        messages.Progressed(
            session=worker.session,
            token=token,
            job="a",
            progress=msgspec.convert({"fraction": 0.5}, messages.JobProgress),
        )
    )
    world.turn()
    job = world.job("a")
    assert (job.state, job.progress and job.progress.fraction) == ("running", 0.5)
    assert job.attempts[-1].started_at == world.clocks.now
    done(world, "a")


def test_reports_of_an_attempt_that_is_over_are_refused_and_counted(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a"))
    worker.take()
    worker.report(messages.Done(session=worker.session, token="t-none", job="a", seconds=1.0))
    worker.report(messages.Done(session=worker.session, token=next(iter(worker.running)), job="other", seconds=1.0))
    world.turn()
    assert world.state("a") == "sent"
    assert world.dispatcher.status().refused_reports == 2


def test_a_worker_beyond_kafka_does_not_say_what_the_types_of_the_service_are(world: World) -> None:
    worker = Worker(world, [JobType(name="webhook", scope="read"), JobType(name="report")], 1, [])
    world.workers.append(worker)
    world.turn()
    known = [each.type.name for each in world.jobs.types()]
    assert known == (["report"] if world.wire.positions else ["report", "webhook"])


def test_an_error_of_a_turn_that_failed_is_not_the_answer_of_the_next_one(world: World) -> None:
    errors = [JobQueueFull("the queue is full", hint="")]

    def ask(_: object) -> str:
        if errors:
            raise errors.pop()
        return "accepted"

    def fail(_: object) -> None:
        raise LookupError

    answered, failed = world.dispatcher.post(ask), world.dispatcher.post(fail)
    world.turns(4)
    assert (answered.error, answered.result) == (None, "accepted")
    assert failed.error is not None


def test_an_old_copy_is_named_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.wire, "is_rewound", lambda: True)
    assert [problem.code for problem in world.dispatcher.status().problems] == ["jobs_rewound"]
    monkeypatch.setattr(world.wire, "problems", lambda: [Problem("jobs_rewound", "it is an old copy", "resume")])
    assert [problem.code for problem in world.dispatcher.status().problems] == ["jobs_rewound"]

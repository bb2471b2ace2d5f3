"""A worker whole: what handlers may do to their process, and that the worker and the other jobs do not notice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.jobs.job import MAX_OUTPUT_OF_ATTEMPT
from eventvault.jobs.messages import Bye, Done, Failed, Fenced, Progressed, Returned, SessionHello
from tests.processes import wait_until
from tests.worker.worker_harness import (
    PATIENCE_SECONDS,
    FakeTransport,
    Harness,
    new_supervisor,
    running_worker,
    wait_until_dead,
)
from worker import pool
from worker.supervisor import ModulesNotImported, Supervisor

pytestmark = pytest.mark.process

BEGUN_WITHIN = 1.5
"""Seconds in which a handler begins, and ends what it does when it is stopped, on a busy machine too."""


class AbsentDispatcher(FakeTransport):
    def __init__(self) -> None:
        super().__init__()
        self.away = True
        self.tries = 0

    def open(self, session: str) -> int:
        self.tries += 1
        return super().open(session)


@pytest.fixture(scope="module")
def shared_worker() -> Iterator[Harness]:
    with running_worker(variables={"LANG": "C.UTF-8", "MY_KEY": "value"}) as worker:
        worker.hello()
        yield worker


@pytest.fixture
def worker(shared_worker: Harness) -> Iterator[Harness]:
    """The worker, which is as well after the test as before: both executors run a job at the same time."""
    yield shared_worker
    runs = [shared_worker.send("about") for _ in range(4)]
    assert [shared_worker.outcome(run).result for run in runs]
    assert all(isinstance(shared_worker.outcome(run), Done) for run in runs)


def test_a_worker_says_what_it_is(worker: Harness) -> None:
    hello = worker.hello()
    assert (hello.concurrency, hello.partition, hello.received) == (2, 3, [])
    types = {job_type.name: job_type for job_type in hello.types}
    assert {"echo", "ping", "report"} <= types.keys()
    assert (types["report"].timeout, types["report"].max_attempts, types["report"].scope) == (60, 2, "admin")
    assert b'"table"' in bytes(types["report"].schema)
    (schedule,) = hello.schedules
    assert (schedule.name, schedule.type, schedule.cron, schedule.time_zone) == (
        "report", "report", "0 3 * * *", "Europe/Berlin",
    )  # fmt: skip
    assert schedule.in_code


def test_a_handler_gets_its_job_and_returns_a_result(worker: Harness) -> None:
    outcome = worker.perform("about", attempt=3)
    assert isinstance(outcome, Done)
    assert outcome.seconds < 60
    assert b'"attempt":3' in bytes(outcome.result)


def test_a_large_payload_and_a_large_result_arrive_whole(worker: Harness) -> None:
    outcome = worker.perform("size", "x" * 500 * 1024)
    assert len(bytes(outcome.result)) == 125 * 1024 + 2


def test_a_payload_is_what_the_schema_makes_of_it(worker: Harness) -> None:
    outcome = worker.perform("report", {"table": "orders", "since": "2027-01-31"})
    assert bytes(outcome.result) == b'{"table":"orders","since":"2027-01-31"}'


@pytest.mark.parametrize(
    ("payload", "field"), [({"since": "2027-01-31"}, "table"), ({"table": "a", "rows": ["b"]}, "rows"), ([], "_schema")]
)
def test_a_payload_that_the_schema_refuses_fails_for_good(worker: Harness, payload: Any, field: str) -> None:
    outcome = worker.perform("report", payload)
    assert isinstance(outcome, Failed)
    assert (outcome.retry, outcome.error.code) == (False, "invalid")
    assert list(outcome.error.fields or {}) == [field]


@pytest.mark.parametrize(
    ("job_type", "payload", "code", "words"),
    [
        ("raise", "broken", "job_failed", "ValueError: broken"),
        ("sys_exit", None, "job_failed", "SystemExit: 3"),
        ("os_exit", None, "job_crashed", "exit status 7"),
        ("segfault", None, "job_crashed", "SIGSEGV"),
        ("kill_itself", None, "job_killed", "killed, probably out of memory"),
        ("eat_memory", None, "job_memory", "WORKER_JOB_MEMORY"),
        ("return", "nan", "result_not_json", "not JSON compliant"),
        ("return", "deep_nan", "result_not_json", "not JSON compliant"),
        ("return", "object", "result_not_json", "cannot be JSON"),
        ("return", "surrogate", "result_not_json", "cannot be JSON"),
        ("return", "large", "result_too_large", "at most 262144"),
        ("return", "nested", "result_not_json", "nested too deeply"),
        ("nobody", None, "job_type_unknown", "'nobody'; known: "),
        ("odd_texts", None, "job_failed", "Odd: an error whose text cannot be made"),
        ("retry", "soon", "job_failed", "could not convert string to float"),
    ],
)
def test_an_attempt_that_goes_wrong_fails_with_the_reason(
    worker: Harness, job_type: str, payload: Any, code: str, words: str
) -> None:
    outcome = worker.perform(job_type, payload)
    assert isinstance(outcome, Failed)
    assert (outcome.outcome, outcome.error.code) == ("failed", code)
    assert outcome.retry == (code != "result_too_large")
    assert words in outcome.error.message


def test_what_a_handler_printed_and_its_traceback_are_in_the_output(worker: Harness) -> None:
    assert "Traceback" in worker.perform("raise", "broken").output
    crashed = worker.perform("segfault").output
    assert "before the fault" in crashed
    assert "handlers_for_executors.py" in crashed
    assert worker.perform("about").output == ""


def test_output_without_end_is_bounded_and_the_rest_counted(worker: Harness) -> None:
    outcome = worker.perform("print_much", 40)
    assert isinstance(outcome, Done)
    count = 40 * 2**20 + len("the end\n")
    assert len(outcome.output) <= MAX_OUTPUT_OF_ATTEMPT
    note, _, text = outcome.output.partition("\n")
    assert note == f"({count - len(text)} bytes of output came before)"
    assert text.endswith("xthe end\n")


@pytest.mark.parametrize("job_type", ["hang_on", "hang_in_c"])
def test_a_handler_that_hangs_whatever_it_is_told_is_killed(worker: Harness, tmp_path: Path, job_type: str) -> None:
    begun = tmp_path / "begun"
    seconds, outcome = until_begun(lambda seconds: worker.perform(job_type, str(begun), timeout=seconds), begun)
    assert isinstance(outcome, Failed)
    assert (outcome.outcome, outcome.error.code) == ("timeout", "job_timeout")
    assert f"longer than its {seconds} s" in outcome.error.message
    assert "was killed" in outcome.error.message


def test_a_handler_that_runs_out_of_time_is_stopped_and_can_clean_up(tmp_path: Path) -> None:
    with running_worker(grace_seconds=PATIENCE_SECONDS) as worker:
        outcome = worker.perform("hang", timeout=0.1)
        assert (outcome.outcome, outcome.error.code) == ("timeout", "job_timeout")
        assert "longer than its 0.1 s" in outcome.error.message
        assert "was killed" not in outcome.error.message
        reason = tmp_path / "reason"
        _, outcome = until_begun(
            lambda seconds: worker.perform("clean_up", str(reason), timeout=seconds), tmp_path / "reason.started"
        )
        assert outcome.outcome == "timeout"
        assert (tmp_path / "reason").read_text() == "timeout"


@pytest.mark.parametrize("job_type", ["leave_child", "leave_daemon"])
def test_processes_that_a_handler_leaves_behind_are_ended_and_its_attempt_fails(
    worker: Harness, tmp_path: Path, job_type: str
) -> None:
    outcome = worker.perform(job_type, str(tmp_path / "child"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "job_left_processes"
    assert (tmp_path / "child").read_text() in outcome.error.message
    wait_until_dead(int((tmp_path / "child").read_text()))


def test_processes_of_a_handler_that_crashed_are_ended_too(worker: Harness, tmp_path: Path) -> None:
    assert worker.perform("crash_with_child", str(tmp_path / "child")).error.code == "job_crashed"
    wait_until_dead(int((tmp_path / "child").read_text()))


def test_a_handler_that_forks_and_returns_twice_has_one_outcome(worker: Harness) -> None:
    run = worker.send("fork_and_return")
    assert bytes(worker.outcome(run).result) == b'"parent"'
    worker.perform("about")
    assert len(worker.outcomes(run)) == 1


def test_a_handler_gets_no_variable_that_is_not_named(worker: Harness) -> None:
    outcome = worker.perform("environment")
    names = set(json.loads(bytes(outcome.result)))
    assert names == {"PATH", "LANG", "MY_KEY"}


def test_retry_and_fail_say_what_shall_happen(worker: Harness) -> None:
    again = worker.perform("retry", 30)
    assert (again.retry, again.after, again.error.message) == (True, 30, "not now")
    never = worker.perform("give_up")
    assert (never.retry, never.after, never.error.message) == (False, None, "there is no such customer")


def test_progress_comes_at_most_once_a_second(worker: Harness, tmp_path: Path) -> None:
    def progress() -> list[Progressed]:
        return [each for each in worker.transport.reports if isinstance(each, Progressed) and each.token == run.token]

    begun = time.monotonic()
    run = worker.send("progress_and_wait", str(tmp_path / "go"))
    worker.transport.wait_for(lambda _: progress(), "no progress")
    assert str(progress()[0].progress.text).startswith("step ")
    (tmp_path / "go").touch()
    assert isinstance(worker.outcome(run), Done)
    assert len(progress()) <= 1 + (time.monotonic() - begun)


def test_only_what_takes_longer_is_reported_as_started(worker: Harness, tmp_path: Path) -> None:
    run = worker.send("wait_for", str(tmp_path / "go"))
    worker.wait_for_start(run)
    (tmp_path / "go").touch()
    assert isinstance(worker.outcome(run), Done)


def test_an_attempt_that_is_sent_again_runs_once_and_its_end_is_reported_again(worker: Harness, tmp_path: Path) -> None:
    run = worker.send("wait_for", str(tmp_path / "go"))
    worker.wait_for_beat(lambda beat: beat.have == [run.token])
    worker.transport.send(run)
    (tmp_path / "go").touch()
    first = worker.outcome(run)
    worker.transport.send(run)
    worker.transport.wait_for(lambda _: len(worker.outcomes(run)) == 2, "it is not reported again")
    assert worker.outcomes(run)[1] == first
    assert len((tmp_path / "go.started").read_text().split()) == 1


def test_waiting_attempts_are_given_back_and_running_ones_are_not(worker: Harness, tmp_path: Path) -> None:
    runs = [worker.send("wait_for", str(tmp_path / "go")) for _ in range(3)]
    worker.wait_for_start(*runs[:2])
    worker.wait_for_beat(lambda beat: len(beat.have) == 3)
    worker.give_back(*runs)
    assert isinstance(worker.outcome(runs[2]), Returned)
    (tmp_path / "go").touch()
    assert [type(worker.outcome(run)) for run in runs[:2]] == [Done, Done]


def test_a_cancelled_attempt_ends_whether_it_runs_or_waits(worker: Harness, tmp_path: Path) -> None:
    runs = [worker.send("hang"), worker.send("hang_on"), worker.send("wait_for", str(tmp_path / "never"))]
    worker.wait_for_beat(lambda beat: len(beat.have) == 3)
    worker.stop(*runs)
    assert [worker.outcome(run).outcome for run in runs] == ["cancelled"] * 3
    assert not (tmp_path / "never.started").exists()


def test_an_attempt_that_was_cancelled_before_it_came_does_not_run(worker: Harness, tmp_path: Path) -> None:
    run = worker.run_of("wait_for", str(tmp_path / "go"))
    worker.stop(run)
    worker.transport.send(run)
    assert worker.outcome(run).outcome == "cancelled"


def test_a_refused_attempt_ends_without_a_report(worker: Harness) -> None:
    run = worker.send("hang")
    worker.wait_for_beat(lambda beat: beat.have == [run.token])
    worker.stop(run, reason="refused")
    worker.wait_for_beat(lambda beat: beat.have == [])
    assert worker.outcomes(run) == []


def test_a_new_connection_is_greeted_with_what_is_there(worker: Harness) -> None:
    run = worker.send("hang")
    worker.wait_for_beat(lambda beat: beat.have == [run.token])
    worker.transport.connect_again()
    worker.transport.wait_for(
        lambda reports: any(isinstance(each, SessionHello) and each.received == [run.token] for each in reports),
        "no hello",
    )
    worker.stop(run)
    worker.outcome(run)


def test_many_jobs_on_two_executors_each_run_once(worker: Harness) -> None:
    runs = [worker.run_of("about") for _ in range(200)]
    worker.transport.send(*runs)
    assert all(isinstance(worker.outcome(run), Done) for run in runs)
    assert all(len(worker.outcomes(run)) == 1 for run in runs)


def test_a_fenced_session_ends_its_handlers_and_a_new_one_begins(worker: Harness) -> None:
    before = worker.session
    run = worker.send("hang_on")
    worker.wait_for_beat(lambda beat: beat.have == [run.token])
    worker.transport.send(Fenced(to=before))
    worker.transport.wait_for(
        lambda _: worker.session != before and worker.session in worker.transport.sessions, "no new session"
    )
    assert worker.hello().received == []
    assert isinstance(worker.perform("about"), Done)
    assert worker.outcomes(run) == []


def test_what_is_for_another_session_does_not_run(worker: Harness, tmp_path: Path) -> None:
    run = worker.run_of("wait_for", str(tmp_path / "go"))
    worker.transport.send(msgspec.structs.replace(run, to="another"))
    worker.perform("about")
    assert worker.outcomes(run) == []
    assert not (tmp_path / "go.started").exists()


def test_a_process_is_replaced_after_so_many_jobs() -> None:
    with running_worker(concurrency=1, jobs_per_process=2) as worker:
        processes = [json.loads(bytes(worker.perform("about").result))["process"] for _ in range(6)]
        assert len(set(processes)) == 3


def test_executors_that_are_killed_are_replaced(tmp_path: Path) -> None:
    with running_worker() as worker:
        run = worker.send("wait_for", str(tmp_path / "never"))
        pid = worker.transport.wait_for(lambda _: started_processes(tmp_path / "never"), "it does not start")[0]
        os.kill(pid, signal.SIGKILL)
        assert worker.outcome(run).error.code == "job_killed"
        assert isinstance(worker.perform("about"), Done)


def test_a_killed_nursery_is_replaced_and_its_attempts_fail(tmp_path: Path) -> None:
    with running_worker() as worker:
        run = worker.send("wait_for", str(tmp_path / "never"))
        pid = worker.transport.wait_for(lambda _: started_processes(tmp_path / "never"), "it does not start")[0]
        nursery = worker.supervisor.pool._program
        assert nursery is not None
        nursery.kill()
        assert worker.outcome(run).error.code == "job_crashed"
        wait_until_dead(pid)
        assert isinstance(worker.perform("about"), Done)


def test_a_nursery_that_a_handler_has_stopped_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PING_SECONDS", 0.05)
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 4.0)
    with running_worker(concurrency=1) as worker:
        worker.hello()
        first = worker.supervisor.pool._program
        assert first is not None
        assert isinstance(worker.perform("stop_nursery"), Done)
        assert worker.perform("os_exit").error.code == "job_crashed", "nobody but the nursery says that"
        assert isinstance(worker.perform("about"), Done)
        assert worker.supervisor.pool._program is not first
        wait_until_dead(first.pid)


def test_a_worker_that_drains_finishes_what_runs_and_hands_back_the_rest(tmp_path: Path) -> None:
    with running_worker(concurrency=1, drain_seconds=30) as worker:
        running = worker.send("wait_for", str(tmp_path / "go"))
        waiting = worker.send("about")
        worker.wait_for_start(running)
        worker.wait_for_beat(lambda beat: len(beat.have) == 2)
        worker.supervisor.drain()
        assert isinstance(worker.outcome(waiting), Returned)
        late = worker.send("about")
        assert isinstance(worker.outcome(late), Returned)
        worker.transport.wait_for(
            lambda reports: any(isinstance(each, SessionHello) and each.concurrency == 0 for each in reports),
            "no hello",
        )
        (tmp_path / "go").touch()
        assert isinstance(worker.outcome(running), Done)
        worker.transport.wait_for(lambda reports: isinstance(reports[-1], Bye) and worker.transport.closed, "no end")


def test_a_worker_that_drains_hands_back_what_takes_too_long(tmp_path: Path) -> None:
    with running_worker(drain_seconds=BEGUN_WITHIN, grace_seconds=BEGUN_WITHIN) as worker:
        hangs = tmp_path / "hangs"
        runs = [worker.send("clean_up", str(tmp_path / "reason")), worker.send("hang_on", str(hangs))]
        worker.wait_for_start(*runs)
        wait_until((tmp_path / "reason.started").exists, "it does not begin")
        wait_until(hangs.exists, "the other one does not begin")
        begun = time.monotonic()
        worker.supervisor.drain()
        assert [type(worker.outcome(run)) for run in runs] == [Returned, Returned]
        assert time.monotonic() - begun > 0.2
        assert (tmp_path / "reason").read_text() == "drain"


def test_a_worker_waits_for_a_dispatcher_that_is_away() -> None:
    with running_worker() as worker:
        worker.hello()
        worker.transport.away = True
        before = worker.session
        worker.transport.send(Fenced(to=before))
        while worker.session == before:
            time.sleep(0.005)
        worker.transport.away = False
        worker.hello()


def test_a_worker_sleeps_until_it_asks_an_absent_dispatcher_again() -> None:
    transport = AbsentDispatcher()
    turns: list[int] = []

    def count_until_third_try(supervisor: Supervisor) -> None:
        turns.append(transport.tries)
        if transport.tries == 3:
            supervisor.drain()

    new_supervisor(transport, on_turn=count_until_third_try).run()

    assert len(turns) < 100, Counter(turns)  # an event or a second each, from the start on; else many thousands


def test_the_services_own_worker_ends_if_no_dispatcher_comes() -> None:
    transport = FakeTransport()
    transport.away = True
    new_supervisor(transport, unreachable_seconds=0.2).run()
    assert transport.reports == []


def test_modules_that_cannot_be_imported_end_the_worker() -> None:
    with pytest.raises(ModulesNotImported, match="no_such_module"):
        new_supervisor(FakeTransport(), modules=["no_such_module"]).run()


def until_begun(perform: Callable[[float], Any], begun: Path) -> tuple[float, Any]:
    """Perform a job with a time-out, and with a longer one if the time was over before its handler had begun.

    begun: a file that the handler makes. Returns the time-out, and the outcome.
    """
    for seconds in (BEGUN_WITHIN, 10 * BEGUN_WITHIN, PATIENCE_SECONDS):
        outcome = perform(seconds)
        if begun.exists():
            break
    return seconds, outcome


def started_processes(path: Path) -> list[int]:
    started = Path(f"{path}.started")
    return [int(line) for line in started.read_text().split()] if started.exists() else []

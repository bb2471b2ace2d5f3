"""A session's attempts: a token runs once, whatever is sent again, and in whatever order messages come."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from eventvault.jobs.messages import Done, Failed, GiveBack, Returned, Run, Stop
from worker import session as module
from worker.session import Stopping, SupervisorSession


def run_of(token: str) -> Run:
    return Run(
        to="s", job=f"job-{token}", type="t", attempt=1, max_attempts=5, token=token, timeout=1.0,
        payload=msgspec.Raw(b"null"),
    )  # fmt: skip


def done(token: str) -> Done:
    return Done(session="s", token=token, job=f"job-{token}", seconds=0.0)


def stop(token: str, reason: str = "cancelled") -> Stop:
    return Stop(to="s", stop=[token], reason=reason)


@pytest.fixture
def session() -> SupervisorSession:
    return SupervisorSession("s")


def test_attempts_run_in_the_order_in_which_they_came(session: SupervisorSession) -> None:
    for token in "abc":
        assert session.receive(run_of(token)) == []
    assert session.have == ["a", "b", "c"]
    assert [session.start_next() for _ in range(4)] == [run_of("a"), run_of("b"), run_of("c"), None]
    assert session.have == ["a", "b", "c"]
    assert session.end(done("b")) == [done("b")]
    assert session.have == ["a", "c"]


def test_an_attempt_that_comes_again_runs_once(session: SupervisorSession) -> None:
    session.receive(run_of("a"))
    assert session.receive(run_of("a")) == []
    session.start_next()
    assert session.receive(run_of("a")) == []
    assert session.start_next() is None
    session.end(done("a"))
    assert session.receive(run_of("a")) == [done("a")]
    assert session.start_next() is None


def test_reports_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    session = SupervisorSession("s")
    for token in "abc":
        session.receive(run_of(token))
        session.start_next()
        session.end(done(token))
    assert session.receive(run_of("b")) == [done("b")]
    assert session.receive(run_of("a")) == []


def test_a_stop_behind_the_end_has_the_end_reported_again(session: SupervisorSession) -> None:
    session.receive(run_of("a"))
    session.start_next()
    session.end(done("a"))
    assert session.stop(stop("a")) == ([done("a")], [])
    assert session.stop(stop("a", "refused")) == ([], [])


def test_a_stop_of_a_running_attempt_is_for_the_executor(session: SupervisorSession) -> None:
    session.receive(run_of("a"))
    session.start_next()
    assert session.stop(stop("a")) == ([], [Stopping("a", "cancelled")])
    assert session.stop(stop("a", "refused")) == ([], [Stopping("a", "refused")])


def test_a_refused_attempt_that_waits_is_dropped_without_a_report(session: SupervisorSession) -> None:
    session.receive(run_of("a"))
    assert session.stop(stop("a", "refused")) == ([], [])
    assert session.have == []


def test_a_drain_returns_what_waits_and_what_comes(session: SupervisorSession) -> None:
    session.receive(run_of("a"))
    session.start_next()
    session.receive(run_of("b"))
    assert [each.token for each in session.drain()] == ["b"]
    (returned,) = session.receive(run_of("c"))
    assert isinstance(returned, Returned)
    assert not session.is_idle
    session.end(done("a"))
    assert session.is_idle


_steps = some.lists(
    some.tuples(some.sampled_from(["run", "start", "end", "stop", "refuse", "return"]), some.integers(0, 4))
)


@pytest.mark.slow
@given(_steps)
def test_a_token_starts_at_most_once_and_has_one_outcome(steps: list[tuple[str, int]]) -> None:
    session = SupervisorSession("s")
    started: list[str] = []
    outcomes: dict[str, set[bytes]] = {}
    for step, number in steps:
        token = str(number)
        reports: list[Done | Failed | Returned] = []
        match step:
            case "run":
                reports = session.receive(run_of(token))
            case "start":
                if (run := session.start_next()) is not None:
                    started.append(run.token)
            case "end":
                reports = session.end(done(token))
            case "stop":
                reports = session.stop(stop(token))[0]
            case "refuse":
                reports = session.stop(stop(token, "refused"))[0]
            case "return":
                reports = session.give_back(GiveBack(to="s", give_back=[token]))
        for report in reports:
            outcomes.setdefault(report.token, set()).add(msgspec.json.encode(report))
        assert not set(session.have) & outcomes.keys()
    assert len(started) == len(set(started))
    assert all(len(each) == 1 for each in outcomes.values())

"""What health says of the jobs, and of a dispatcher that does not answer."""

from __future__ import annotations

import msgspec
import pytest

from eventvault import clock
from eventvault.errors import DatabaseDamaged, EventVaultError, JobsDamaged, JobsUnavailable
from eventvault.jobs.port import Jobs, QueueStatus
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store import queue_watch
from eventvault.store.queue_watch import QueueWatch

AWAY = JobsUnavailable("no dispatcher of jobs answers", hint="wait")


class Asked(Jobs):
    def __init__(self) -> None:
        self.answer: QueueStatus | EventVaultError = QueueStatus(
            workers=1, slots=2, waiting=3, running=1, dead=0, held=0, oldest_waiting=None,
            states={"pending": 3, "running": 1}, refused_reports=0, broker=False, problems=[],
        )  # fmt: skip

    def status(self) -> QueueStatus:
        if isinstance(self.answer, EventVaultError):
            raise self.answer
        if self.answer is None:
            raise LookupError("nobody foresaw this")
        return self.answer

    def change(self, **changes: object) -> None:
        assert isinstance(self.answer, QueueStatus)
        self.answer = msgspec.structs.replace(self.answer, **changes)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def watch(settings: Settings, asked: Asked) -> QueueWatch:
    return QueueWatch(settings, asked)


def test_what_the_dispatcher_has_is_shown(watch: QueueWatch, asked: Asked) -> None:
    assert watch.describe() is None
    asked.change(oldest_waiting=1_700_000_000_000_000)
    watch.ask()
    described = watch.describe()
    assert described is not None
    assert described["oldestWaiting"] == "2023-11-14T22:13:20.000Z"
    assert described["states"] == {"pending": 3, "running": 1}
    assert "problems" not in described


def test_jobs_that_wait_for_too_long_are_a_problem(watch: QueueWatch, asked: Asked, settings: Settings) -> None:
    late = settings.jobs_late_after.microseconds
    for oldest, codes in ((None, []), (clock.now() - late // 2, []), (clock.now() - late - 1_000_000, ["jobs_late"])):
        asked.change(oldest_waiting=oldest)
        watch.ask()
        assert [problem.code for problem in watch.problems()] == codes


def test_the_problems_of_the_dispatcher_are_those_of_health(watch: QueueWatch, asked: Asked) -> None:
    problem = Problem("jobs_wait_for_worker", "jobs wait for a worker", "start one")
    asked.change(problems=[problem])
    watch.ask()
    assert watch.problems() == [problem]


def test_a_dispatcher_that_is_started_again_is_no_problem_yet(
    watch: QueueWatch, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.ask()
    asked.answer = AWAY
    watch.ask()
    assert watch.problems() == []
    monkeypatch.setattr(queue_watch, "AWAY_SECONDS", 0.0)
    assert [(problem.code, problem.hint) for problem in watch.problems()] == [("jobs_unavailable", "wait")]
    assert watch.describe() is None


def test_the_first_dispatcher_of_a_store_has_longer(
    watch: QueueWatch, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "AWAY_SECONDS", 0.0)
    asked.answer = AWAY
    watch.ask()
    assert watch.problems() == []
    monkeypatch.setattr(queue_watch, "START_SECONDS", 0.0)
    assert [problem.code for problem in watch.problems()] == ["jobs_unavailable"]


def test_an_unforeseen_error_is_named_and_the_next_look_is_as_good_as_any(watch: QueueWatch, asked: Asked) -> None:
    good, asked.answer = asked.answer, None  # type: ignore[assignment]
    watch.ask()
    (problem,) = watch.problems()
    assert problem.code == "jobs_unavailable"
    assert "could not be asked" in problem.message
    assert problem.hint == "the log of the service says why"
    asked.answer = good
    watch.ask()
    assert watch.problems() == []


def test_why_no_dispatcher_could_be_started_is_named(
    settings: Settings, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "AWAY_SECONDS", 0.0)
    watch = QueueWatch(settings, asked, lambda: "jobs.lock cannot be opened")
    asked.answer = AWAY
    watch.ask()
    assert watch.problems()[0].message == "no dispatcher of jobs answers: jobs.lock cannot be opened"


def test_a_dispatcher_without_its_database_says_why_at_once(watch: QueueWatch, asked: Asked) -> None:
    asked.answer = DatabaseDamaged("jobs_db is damaged", hint="see docs/jobs.md")
    watch.ask()
    assert [(problem.code, problem.message) for problem in watch.problems()] == [
        ("jobs_unavailable", "jobs_db is damaged")
    ]
    asked.answer = JobsDamaged("jobs_db is damaged", hint="move it away")
    watch.ask()
    assert [(problem.code, problem.hint) for problem in watch.problems()] == [("jobs_damaged", "move it away")]

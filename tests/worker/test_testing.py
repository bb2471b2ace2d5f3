"""`worker.testing`: a handler in a test, as an executor would run it."""

from __future__ import annotations

import pytest

from tests.worker import handlers_for_executors  # noqa: F401 - registers handlers
from worker.testing import run_job


def test_a_result_is_what_its_json_says() -> None:
    outcome = run_job("report", {"table": "orders", "since": "2027-01-31"})
    assert outcome.is_done
    assert outcome.result == {"table": "orders", "since": "2027-01-31"}


def test_a_payload_is_checked() -> None:
    outcome = run_job("report", {"tables": "orders"})
    assert outcome.error is not None
    assert (outcome.is_done, outcome.retry, outcome.error.code) == (False, False, "invalid")
    assert set(outcome.error.fields or {}) == {"table", "tables"}


def test_what_a_handler_raises_is_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run_job("raise", "broken")
    assert outcome.error is not None
    assert (outcome.retry, outcome.error.code, outcome.error.message) == (True, "job_failed", "ValueError: broken")
    assert "Traceback" in capsys.readouterr().err
    assert run_job("raise", "broken", attempt_number=5).retry is False


def test_retry_fail_and_progress_are_seen() -> None:
    assert (run_job("retry", 30).retry, run_job("retry", 30).after) == (True, 30)
    assert run_job("give_up").retry is False
    assert [each.fraction for each in run_job("progress", 4).progress] == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["nan", "large", "object"])
def test_a_result_that_an_executor_refuses_is_refused(kind: str) -> None:
    assert not run_job("return", kind).is_done


def test_a_type_without_a_handler_is_the_tests_fault() -> None:
    with pytest.raises(LookupError, match="no handler is registered for 'nobody'"):
        run_job("nobody")

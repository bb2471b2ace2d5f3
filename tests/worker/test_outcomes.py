"""From a job message to an outcome: handlers, and every kind of invalid job."""

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from worker import jobs, outcomes, registry
from worker.jobs import Job


def outcome_of(value: Any) -> dict[str, Any]:
    text = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    found: dict[str, Any] = json.loads(outcomes.encode(outcomes.run(text, "jobs/0/7")))
    return found


def register(monkeypatch: pytest.MonkeyPatch, job_type: str, handler: registry.Handler) -> None:
    monkeypatch.setattr(registry, "_registrations", dict(registry._registrations))
    jobs.job(job_type)(handler)


def test_echo_returns_its_payload() -> None:
    outcome = outcome_of({"id": "1", "type": "echo", "payload": {"a": [1, "ä", None]}})
    assert (outcome["id"], outcome["type"], outcome["state"]) == ("1", "echo", "done")
    assert outcome["result"] == {"a": [1, "ä", None]}
    assert outcome["startedAt"] <= outcome["finishedAt"]


def test_ping_returns_the_worker_and_its_job_types() -> None:
    result = outcome_of({"id": "1", "type": "ping"})["result"]
    assert result["worker"] == jobs.WORKER_NAME
    assert {"echo", "ping"} <= set(result["jobTypes"])


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (None, "malformed", "not JSON"),
        (b"\xff", "malformed", "the job is not"),
        (b"{", "malformed", "not JSON"),
        ([], "invalid", "not an object"),
        ({"type": "echo"}, "invalid", "the job's id"),
        ({"id": "", "type": "echo"}, "invalid", "the job's id"),
        ({"id": "x" * 1001, "type": "echo"}, "invalid", "the job's id"),
        ({"id": 5, "type": "echo"}, "invalid", "the job's id"),
        ({"id": "1"}, "invalid", "the job's type"),
        ({"id": "1", "type": ["echo"]}, "invalid", "the job's type"),
        ({"id": "1", "type": "nobody"}, "invalid", "'nobody'; known: "),
    ],
)
def test_a_job_that_cannot_be_run_is_a_failed_outcome(value: Any, code: str, words: str) -> None:
    outcome = outcome_of(value)
    assert (outcome["state"], outcome["error"]["code"]) == ("failed", code)
    assert words in outcome["error"]["message"]


def test_a_job_without_a_valid_id_is_named_by_its_offset() -> None:
    assert outcome_of(b"nonsense")["id"] == "jobs/0/7"


def test_an_exception_is_a_failed_outcome_and_its_traceback_stays_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Job) -> None:
        raise ZeroDivisionError("no " * 1000)

    register(monkeypatch, "broken", broken)
    with caplog.at_level(logging.ERROR, "worker"):
        outcome = outcome_of({"id": "1", "type": "broken"})
    assert outcome["error"]["code"] == "job_failed"
    assert outcome["error"]["message"].startswith("ZeroDivisionError: no no")
    assert len(outcome["error"]["message"]) == outcomes.MAX_ERROR_LENGTH
    assert "Traceback" not in json.dumps(outcome)
    assert "Traceback" in caplog.text


def test_a_handler_that_calls_exit_only_fails_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaving(_: Job) -> None:
        raise SystemExit(3)

    register(monkeypatch, "leaving", leaving)
    assert outcome_of({"id": "1", "type": "leaving"})["error"]["message"] == "SystemExit: 3"


def test_a_result_that_cannot_be_json_is_a_failed_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "odd", lambda _: object())
    assert outcome_of({"id": "1", "type": "odd"})["error"]["code"] == "result_not_json"


@pytest.mark.parametrize("result", [math.nan, [math.inf], {"a": {1: -math.inf}}, (0, {"x": math.nan})])
def test_a_result_that_is_not_a_number_is_a_failed_outcome(monkeypatch: pytest.MonkeyPatch, result: object) -> None:
    register(monkeypatch, "odd", lambda _: result)
    assert outcome_of({"id": "1", "type": "odd"})["error"]["code"] == "result_not_json"


def test_a_result_of_other_types_has_a_json_form(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"when": datetime(2026, 1, 31, tzinfo=UTC), 1: b"x", "set": {1}, "none": None, "float": 1.5}
    register(monkeypatch, "odd", lambda _: result)
    assert outcome_of({"id": "1", "type": "odd"})["result"] == {
        "when": "2026-01-31T00:00:00Z", "1": "eA==", "set": [1], "none": None, "float": 1.5,
    }  # fmt: skip


def test_a_job_with_a_repeated_name_is_refused() -> None:
    outcome = outcome_of(b'{"id":"1","type":"echo","payload":{"a":1,"a":2}}')
    assert (outcome["state"], outcome["error"]["code"]) == ("failed", "invalid")

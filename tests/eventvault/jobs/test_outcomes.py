"""Outcomes have the fields that they had in 0.1.0, and a dead letter says why and can be sent again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.jobs import outcomes
from eventvault.jobs.job import Attempt, Job, JobError, Origin, State
from eventvault.jobs.transport import OutboxMessage, Position, Submitted

ATTEMPT = Attempt(number=1, token="t", session="s", host="host-7", sent_at=1_000_000, started_at=2_000_000)


def job(state: State, **more: Any) -> Job:
    return Job(id="j/1", type="report", order=1, state=state, created=0, run_at=0, digest="", ended=3_000_000, **more)


def test_the_outcome_of_a_done_job_has_its_result() -> None:
    message = outcomes.outcome_message(job("done", attempts=(ATTEMPT,)), b'{"rows": 1.50}')
    assert (message.kind, message.key) == ("result", b"j/1")
    assert message.value is not None
    assert b'"rows": 1.50' in message.value
    assert json.loads(message.value) == {
        "id": "j/1", "type": "report", "state": "done", "worker": "host-7",
        "startedAt": "1970-01-01T00:00:02.000Z", "finishedAt": "1970-01-01T00:00:03.000Z", "result": {"rows": 1.5},
    }  # fmt: skip


def test_a_result_of_null_is_there() -> None:
    assert json.loads(outcomes.outcome_message(job("done"), b"null").value or b"")["result"] is None


@pytest.mark.parametrize(("state", "code"), [("dead", "job_failed"), ("cancelled", "job_cancelled")])
def test_the_outcome_of_any_other_end_is_failed(state: State, code: str) -> None:
    error = JobError(code, "x" * 5_000) if state == "dead" else None
    value = json.loads(outcomes.outcome_message(job(state, error=error), None).value or b"")
    assert value["state"] == "failed"
    assert value["error"]["code"] == code
    assert len(value["error"]["message"]) <= 1_000
    assert "result" not in value


def test_a_dead_job_can_be_sent_again_and_says_why_it_died() -> None:
    dead = job("dead", error=JobError("job_failed", "no däta"), key="k", max_attempts=3, attempt=3)
    message = outcomes.dead_letter(dead, b'{"table": "a"}')
    assert json.loads(message.value or b"") == {
        "id": "j/1", "type": "report", "payload": {"table": "a"}, "key": "k", "maxAttempts": 3, "timeout": 900.0,
    }  # fmt: skip
    assert dict(message.headers) == {
        "x-eventvault-reason": "no däta".encode(), "x-eventvault-code": b"job_failed", "x-eventvault-attempts": b"3",
    }  # fmt: skip


@pytest.mark.parametrize(("origin", "shown"), [("api", "(hidden)"), ("schedule", "(hidden)"), ("kafka", "s3cret")])
def test_a_dead_letter_has_the_headers_of_a_webhook_only_if_they_came_by_a_topic(origin: Origin, shown: str) -> None:
    webhook = msgspec.structs.replace(job("dead", origin=origin), type="webhook")
    message = outcomes.dead_letter(webhook, b'{"url":"u","headers":{"Authorization":"s3cret"}}')
    assert json.loads(message.value or b"")["payload"] == {"url": "u", "headers": {"Authorization": shown}}


@pytest.mark.slow
@given(st.none() | st.binary(max_size=60) | st.sampled_from([b'{"id": "a", "type": 5}', b'{"id": ""}', b"[1]"]))
def test_a_message_that_is_no_job_has_an_outcome_and_a_dead_letter_as_it_was(value: bytes | None) -> None:
    submitted = Submitted(b"key", value, (("h", None),), Position("jobs", 3, 8))
    outcome, dead = outcomes.refusal_messages(submitted, JobError("malformed", "no JSON"), "host-1", 5_000_000)
    found = json.loads(outcome.value or b"")
    assert found["id"] == ("a" if value == b'{"id": "a", "type": 5}' else "jobs/3/7")
    assert (found["state"], found["worker"], found["error"]["code"]) == ("failed", "host-1", "malformed")
    assert (dead.kind, dead.key, dead.value, dead.headers[0]) == ("dead", b"key", value, ("h", None))
    assert dict(dead.headers)["x-eventvault-offset"] == b"7"


def test_a_shorter_form_of_a_message_says_that_it_is_one() -> None:
    large = outcomes.outcome_message(job("done"), msgspec.json.encode("x" * 5_000))
    short = outcomes.shortened(large)
    assert short.key == large.key
    assert len(short.value or b"") < 1_000
    assert json.loads(short.value or b"")["error"]["code"] == "result_too_large"
    dead = outcomes.shortened(OutboxMessage("dead", b"k", b"x" * 5_000, (("x-eventvault-reason", b"why"),)))
    assert dead.value is None
    assert dict(dead.headers)["x-eventvault-shortened"] == b"5000"

"""The values of a webhook's headers are hidden; everything else of a payload is as it was sent."""

from __future__ import annotations

import json

import msgspec
import pytest

from eventvault.jobs.hidden_values import (
    HIDDEN,
    payload_without_secrets,
    schedule_without_secrets,
    view_without_secrets,
)
from eventvault.jobs.job import Job, JobSchedule
from eventvault.jobs.port import JobView

TEXT = b'{"url":"https://a.example","body":{"n":1.10},"headers":{"Authorization":"Bearer s3cret"}}'
PAYLOAD = msgspec.Raw(TEXT)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (TEXT, TEXT.replace(b"Bearer s3cret", b"(hidden)")),
        (b'{"headers":{"A":"s3cret"},"headers":{"B":"s3cret"}}', b'{"headers":{"B":"(hidden)"}}'),
        (b'{"he\\u0061ders":{"A":"s3cret"}}', b'{"headers":{"A":"(hidden)"}}'),
        (b'{"headers":["s3cret"]}', b'{"headers":"(hidden)"}'),
        (b'{"headers":{}}', b'{"headers":{}}'),
        (b'{"url":"u"}', b'{"url":"u"}'),
        (b"null", b"null"),
        (b"[1.10]", b"[1.10]"),
    ],
)
def test_names_are_shown_and_values_are_not(payload: bytes, expected: bytes) -> None:
    assert bytes(payload_without_secrets("webhook", msgspec.Raw(payload))) == expected


def test_other_types_have_no_secrets() -> None:
    assert payload_without_secrets("report", PAYLOAD) is PAYLOAD


def test_a_job_and_a_schedule_are_shown_so() -> None:
    job = Job(id="a", type="webhook", order=1, state="pending", created=1, run_at=1, digest="")
    schedule = JobSchedule(name="n", type="webhook", cron="0 3 * * *", payload=PAYLOAD)
    for payload in (view_without_secrets(JobView(job, PAYLOAD)).payload, schedule_without_secrets(schedule).payload):
        assert json.loads(bytes(payload or b""))["headers"] == {"Authorization": HIDDEN}
    assert view_without_secrets(JobView(job)) == JobView(job)

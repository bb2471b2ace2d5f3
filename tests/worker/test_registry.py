"""What `@job` and `@cron` declare, and what they refuse."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from marshmallow import Schema, fields

from eventvault.jobs.job import MAX_SCHEDULE_NAME_LENGTH
from worker import jobs, registry
from worker.jobs import Job, cron, job


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registrations", {})
    monkeypatch.setattr(registry, "_schedules", [])


class TableSchema(Schema):
    table = fields.String(required=True)


def handler(_: Job) -> None:
    pass


def test_a_job_type_has_at_most_one_handler() -> None:
    job("one")(handler)
    with pytest.raises(ValueError, match="'one' has a handler already: handler"):
        job("one")(lambda job: job)
    assert job("one")(handler) is handler


def test_a_type_says_how_it_is_run() -> None:
    job("plain")(handler)
    job("report", timeout=timedelta(minutes=2), max_attempts=3, scope="admin")(handler)
    plain, report = registry.catalogue().types
    assert (plain.name, plain.timeout, plain.max_attempts, plain.scope) == ("plain", 900, 5, "write")
    assert bytes(plain.schema) == b"null"
    assert (report.timeout, report.max_attempts, report.scope) == (120, 3, "admin")


@pytest.mark.parametrize(
    ("job_type", "options", "words"),
    [
        ("", {}, "1 to 1000 characters"),
        ("x" * 1001, {}, "1 to 1000 characters"),
        ("a", {"timeout": 0}, "timeout is 0 s"),
        ("a", {"timeout": timedelta(days=8)}, "timeout is 691200 s"),
        ("a", {"max_attempts": 0}, "max_attempts is 0"),
        ("a", {"scope": "root"}, "scope is 'root', not one of read, write"),
    ],
)
def test_a_type_that_is_not_allowed_is_refused_with_the_reason(job_type: str, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        job(job_type, **options)(handler)


@pytest.mark.parametrize("order", [(cron, job), (job, cron)])
def test_a_schedule_belongs_to_the_type_of_its_handler_in_any_order(order: tuple[Any, Any]) -> None:
    for decorator in order:
        decorator("report" if decorator is job else "0 3 * * *")(handler)
    (schedule,) = registry.catalogue().schedules
    assert (schedule.name, schedule.type, schedule.cron, schedule.time_zone) == ("report", "report", "0 3 * * *", "UTC")
    assert schedule.in_code


def test_a_second_schedule_of_a_type_has_a_name() -> None:
    job("report")(handler)
    cron("0 3 * * *")(handler)
    cron("0 4 * * *", name="report-late", payload={"late": True}, overlap=True, catch_up=timedelta(hours=1))(handler)
    first, second = registry.catalogue().schedules
    assert (first.name, second.name) == ("report", "report-late")
    assert (second.payload, second.overlap, second.catch_up) == (msgspec.Raw(b'{"late":true}'), True, 3600)
    cron("0 5 * * *")(handler)
    with pytest.raises(ValueError, match="'report' is declared twice"):
        registry.catalogue()


def test_a_schedule_whose_payload_its_schema_refuses_is_refused() -> None:
    job("report", schema=TableSchema)(handler)
    cron("0 3 * * *", payload={"table": "orders"})(handler)
    assert len(registry.catalogue().schedules) == 1
    cron("0 4 * * *", name="late")(handler)
    with pytest.raises(ValueError, match="'late': the payload does not fit its schema"):
        registry.catalogue()


def test_a_schedule_without_a_type_is_refused() -> None:
    cron("0 3 * * *")(handler)
    with pytest.raises(ValueError, match="handler has a schedule and no type"):
        registry.catalogue()


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("often", "UTC", "its schedule is 'often'; allowed: the five fields"),
        ("off", "UTC", "its schedule is 'off'"),
        ("0 0 30 2 *", "UTC", "a date that exists"),
        ("0 0 * * *", "Mars/Olympus", "its time zone is 'Mars/Olympus'"),
    ],
)
def test_a_schedule_that_never_fires_is_refused(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cron(expression, time_zone=zone)(handler)


def test_a_schedule_whose_jobs_would_have_too_long_an_id_is_refused() -> None:
    cron("0 0 * * *")(job("t" * (MAX_SCHEDULE_NAME_LENGTH + 1))(handler))
    with pytest.raises(ValueError, match=r"a name of 971 characters, at most 970 are possible: give it a shorter one"):
        registry.catalogue()


def test_progress_is_a_fraction_and_a_text() -> None:
    reported: list[Any] = []
    this = Job("1", "report", on_progress=reported.append)
    this.progress(0.25, "a quarter")
    this.progress(7)
    this.progress(text="x" * 500)
    Job("1", "report").progress(0.5)
    assert [(each.fraction, len(each.text or "")) for each in reported] == [(0.25, 9), (1.0, 0), (None, 200)]
    assert jobs.Retry(after=timedelta(minutes=1)).after == 60

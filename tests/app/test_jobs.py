"""`/api/jobs` on the double of the dispatcher."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from eventvault.access.changes import TokenChanges
from eventvault.jobs.job import JobError, JobProgress, JobRequest, JobSchedule, JobType
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore

SCHEMA = msgspec.Raw(b'{"type":"object","required":["customer"],"properties":{"customer":{"type":"string"}}}')


@pytest.fixture
def jobs() -> MemoryJobs:
    double = MemoryJobs()
    double.offer(
        JobType(name="echo"),
        JobType(name="invoice", schema=SCHEMA, max_attempts=3),
        JobType(name="export", scope="read"),
        JobType(name="verify", scope="backup"),
        JobType(name="prune", scope="admin"),
        schedules=[JobSchedule(name="in-code", type="echo", cron="0 3 * * *")],
    )
    return double


@pytest.fixture
def app(settings: Settings, store: MemoryStore, jobs: MemoryJobs) -> Flask:
    return create_app(settings, store, jobs=jobs, shared_seconds=0.0)


def submit(web: FlaskClient, **members: Any) -> str:
    answer = web.post("/api/jobs", json={"type": "echo", **members})
    assert answer.status_code in (200, 201), answer.json
    job_id: str = answer.json["results"][0]["id"]
    return job_id


def test_a_job_is_submitted_and_shown_with_all_of_it(web: FlaskClient) -> None:
    answer = web.post("/api/jobs", json={"type": "echo", "id": "a/b c", "payload": {"n": 1}, "delay": 60, "timeout": 5})
    assert (answer.status_code, answer.json) == (201, {
        "success": True, "accepted": 1, "duplicates": 0,
        "results": [{"id": "a/b c", "state": "pending", "duplicate": False}],
    })  # fmt: skip
    shown = web.get("/api/jobs/a%2Fb%20c").json["job"]
    assert shown == web.get("/api/jobs?id=a/b%20c").json["job"]
    expected = {
        "state": "pending",
        "payload": {"n": 1},
        "result": None,
        "attempts": [],
        "timeout": 5.0,
        "maxAttempts": 5,
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["startedBy"] == "open"
    assert shown["runAt"] > shown["createdAt"]


def test_an_array_and_lines_are_accepted_as_a_whole(web: FlaskClient) -> None:
    assert web.post("/api/jobs", json=[{"type": "echo", "id": "1"}, {"type": "echo", "id": "2"}]).json["accepted"] == 2
    lines = b'{"type": "echo", "id": "3"}\n\n{"type": "echo", "id": "1"}\n'
    answer = web.post("/api/jobs", data=lines, content_type="application/x-ndjson")
    assert [each["duplicate"] for each in answer.json["results"]] == [False, True]
    assert web.post("/api/jobs", data=lines).status_code == 200  # without its content type too: all are duplicates
    assert web.post("/api/jobs", json=[]).json["results"] == []


def test_a_payload_comes_back_digit_for_digit(web: FlaskClient) -> None:
    text = b'{"n": 1.000000000000000000001, "big": 123456789012345678901234567890, "e": "\\u00e4"}'
    web.post("/api/jobs", data=b'{"type":"echo","id":"exact","payload":%s}' % text, content_type="application/json")
    assert text.replace(b": ", b":").replace(b", ", b",") in web.get("/api/jobs/exact").data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"type": ["Missing."]}),
        ({"type": ""}, {"type": ["Expected `str` of length >= 1."]}),
        ({"type": "echo", "priorty": 1}, {"priorty": ["Unknown field."]}),
        ({"type": "echo", "priority": 10}, {"priority": ["Expected `float` <= 9.0."]}),
        ({"type": "echo", "delay": -1}, {"delay": ["Expected `float` >= 0.0."]}),
        ({"type": "echo", "timeout": 0}, {"timeout": ["Expected `float` > 0.0."]}),
        ({"type": "echo", "delay": 1, "runAt": "2030-01-01T00:00:00Z"}, {"runAt": ["Not together with delay."]}),
        ({"type": "echo", "id": "x" * 1001}, {"id": ["Expected `str` of length <= 1000."]}),
        ({"type": "invoice", "payload": {}}, {"payload": ['"customer" is a required property']}),
        ({"type": "invoice", "payload": {"customer": 1}}, {"payload.customer": ['1 is not of type "string"']}),
    ],
)
def test_what_is_wrong_with_a_job_is_said_of_its_member(
    web: FlaskClient, body: dict[str, Any], fields: dict[str, Any]
) -> None:
    answer = web.post("/api/jobs", json=body)
    assert (answer.status_code, answer.json["code"], answer.json["fields"]) == (422, "invalid", fields)
    assert web.get("/api/jobs").json["jobs"] == []


def test_of_several_jobs_each_that_is_wrong_is_named_and_none_is_accepted(web: FlaskClient) -> None:
    answer = web.post("/api/jobs", json=[{"type": "echo"}, {"type": 1}, {"type": "echo", "runAt": "soon"}])
    assert answer.status_code == 422
    assert sorted(answer.json["fields"]) == ["1", "2"]
    answer = web.post("/api/jobs", json=[{"type": "invoice", "payload": {}}, {"type": "echo"}])
    assert list(answer.json["fields"]) == ["0"]
    assert web.get("/api/jobs").json["jobs"] == []


@pytest.mark.slow
def test_an_unknown_type_is_refused_with_the_known_ones(web: FlaskClient) -> None:
    answer = web.post("/api/jobs", json={"type": "exprt"})
    assert (answer.status_code, answer.json["code"]) == (422, "job_type_unknown")
    assert answer.json["known"] == ["echo", "export", "invoice", "prune", "verify"]
    assert answer.json["hint"].startswith("did you mean export? Known: echo, export")


def test_a_payload_above_its_limit_is_too_large(settings: Settings, store: MemoryStore, jobs: MemoryJobs) -> None:
    large = create_app(replace(settings, max_body_bytes=2**20), store, jobs=jobs)
    answer = large.test_client().post("/api/jobs", json={"type": "echo", "payload": "x" * (512 * 1024)})
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")


def test_what_is_no_json_is_malformed(web: FlaskClient) -> None:
    for body in (b"", b"{", b"[{]", b'"text"\n'):
        answer = web.post("/api/jobs", data=body)
        assert answer.status_code in (400, 422), body
        assert answer.json["code"] in ("malformed", "invalid")


def test_a_second_one_of_a_unique_is_the_first(web: FlaskClient) -> None:
    first = submit(web, unique="nightly")
    answer = web.post("/api/jobs", json={"type": "echo", "unique": "nightly"})
    assert (answer.status_code, answer.json["results"][0]["id"]) == (200, first)


def test_a_job_that_is_there_is_a_duplicate_and_differs_if_it_is_another(web: FlaskClient) -> None:
    submit(web, id="1", payload=1)
    again = web.post("/api/jobs", json={"type": "echo", "id": "1", "payload": 1})
    assert (again.status_code, again.json["results"][0]) == (200, {"id": "1", "state": "pending", "duplicate": True})
    other = web.post("/api/jobs", json={"type": "echo", "id": "1", "payload": 2}).json["results"][0]
    assert other == {"id": "1", "state": "pending", "duplicate": True, "differs": True}


def test_a_request_that_is_repeated_with_its_key_adds_nothing(web: FlaskClient, jobs: MemoryJobs) -> None:
    sent = {"json": [{"type": "echo"}, {"type": "echo"}], "headers": {"Idempotency-Key": "k"}}
    first = web.post("/api/jobs", **sent)
    assert web.post("/api/jobs", **sent).json == first.json
    assert len(jobs.list_jobs([], [], 10, None).jobs) == 2


def test_a_list_is_filtered_and_paged_newest_first(web: FlaskClient, jobs: MemoryJobs) -> None:
    for number in range(5):
        submit(web, id=str(number), type="echo" if number % 2 else "export")
    jobs.start("3")
    page = web.get("/api/jobs?limit=2").json
    assert ([job["id"] for job in page["jobs"]], page["next"]) == (["4", "3"], "3")
    rest = web.get("/api/jobs?limit=3&before=3").json
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == (["2", "1", "0"], None)
    assert [job["id"] for job in web.get("/api/jobs?state=running,dead").json["jobs"]] == ["3"]
    assert [job["id"] for job in web.get("/api/jobs?type=export").json["jobs"]] == ["4", "2", "0"]
    assert web.get("/api/jobs?before=none").status_code == 404
    for wrong in ("state=ready", "limit=0", "limit=1001", "states=dead", "state=dead&state=done"):
        assert web.get(f"/api/jobs?{wrong}").status_code == 422, wrong


@pytest.mark.slow
def test_a_job_shows_its_progress_its_attempts_and_its_result_but_no_token(web: FlaskClient, jobs: MemoryJobs) -> None:
    done, dead = submit(web), submit(web)
    jobs.start(done, JobProgress(0.5, "half"))
    assert web.get(f"/api/jobs/{done}").json["job"]["progress"] == {"fraction": 0.5, "text": "half"}
    jobs.finish(done, b'{"rows":1.10}', output="hello")
    jobs.start(dead)
    jobs.finish(dead, error=JobError("failed", "ValueError: no"))
    assert b'"result":{"rows":1.10}' in web.get(f"/api/jobs/{done}").data
    attempt = web.get(f"/api/jobs/{done}").json["job"]["attempts"][0]
    assert (attempt["number"], attempt["outcome"], attempt["output"], "token" in attempt) == (1, "done", "hello", False)
    listed = web.get("/api/jobs?state=dead").json["jobs"][0]
    assert listed["error"] == {"code": "failed", "message": "ValueError: no"}
    assert web.get("/api/jobs/none").json["code"] == "job_not_found"


def test_cancelling_says_what_became_of_each(web: FlaskClient, jobs: MemoryJobs) -> None:
    waiting, running, done = submit(web), submit(web), submit(web)
    for job_id in (running, done):
        jobs.start(job_id)
    jobs.finish(done)
    answer = web.post("/api/jobs/cancel", json={"ids": [waiting, running, done, "none"]})
    assert answer.status_code == 202
    assert [(each["outcome"], each["state"]) for each in answer.json["jobs"]] == [
        ("changed", "cancelled"), ("stopping", "running"), ("unchanged", "done"), ("unknown", None),
    ]  # fmt: skip
    assert web.get(f"/api/jobs/{running}").json["job"]["cancelRequested"] is True
    assert web.post("/api/jobs/cancel", json={"ids": [waiting]}).status_code == 200
    assert web.post("/api/jobs/cancel", json={"ids": ["none"]}).status_code == 404
    for body in ({}, {"ids": []}, {"ids": "1"}, {"ids": ["1"], "state": "dead"}):
        assert web.post("/api/jobs/cancel", json=body).status_code == 422, body


@pytest.mark.slow
def test_a_retry_gives_dead_and_cancelled_jobs_all_their_tries(web: FlaskClient, jobs: MemoryJobs) -> None:
    dead, cancelled, waiting = submit(web), submit(web), submit(web)
    jobs.start(dead)
    jobs.finish(dead, error=JobError("failed", "no"))
    web.post("/api/jobs/cancel", json={"ids": [cancelled]})
    answer = web.post("/api/jobs/retry", json={"ids": [dead, cancelled, waiting]})
    assert [each["outcome"] for each in answer.json["jobs"]] == ["changed", "changed", "unchanged"]
    job = web.get(f"/api/jobs/{dead}").json["job"]
    assert (job["state"], job["tries"], job["error"], len(job["attempts"])) == ("pending", 0, None, 1)


def test_a_type_is_paused_and_resumed(web: FlaskClient, jobs: MemoryJobs) -> None:
    assert web.post("/api/jobs/pause", json={"type": "echo"}).json["paused"] == ["echo"]
    assert [each["type"] for each in web.get("/api/jobs/types").json["types"] if each["paused"]] == ["echo"]
    assert web.post("/api/jobs/pause").json["paused"] == ["echo", "export", "invoice", "prune", "verify"]
    assert web.post("/api/jobs/pause", json={"type": "ecko"}).json["code"] == "job_type_unknown"
    held = submit(web)
    jobs.hold(held)
    assert "echo" not in web.post("/api/jobs/resume", json={"type": "echo"}).json["paused"]
    assert web.get(f"/api/jobs/{held}").json["job"]["state"] == "held"
    assert web.post("/api/jobs/resume").json["paused"] == []
    assert web.get(f"/api/jobs/{held}").json["job"]["state"] == "pending"


def test_all_types_are_paused_those_that_come_later_too(web: FlaskClient, jobs: MemoryJobs) -> None:
    before = web.post("/api/jobs/pause").json["paused"]
    assert before == ["echo", "export", "invoice", "prune", "verify"]
    jobs.offer(JobType(name="later"), JobType(name="echo"))
    assert {each["type"] for each in web.get("/api/jobs/types").json["types"] if each["paused"]} == {*before, "later"}
    assert web.post("/api/jobs/resume").json["paused"] == []
    jobs.offer(JobType(name="latest"))
    assert not any(each["paused"] for each in web.get("/api/jobs/types").json["types"])


def test_a_type_shows_its_schema_and_its_scope(web: FlaskClient) -> None:
    types = {each["type"]: each for each in web.get("/api/jobs/types").json["types"]}
    assert types["invoice"]["schema"]["required"] == ["customer"]
    assert (types["prune"]["scope"], types["echo"]["schema"], types["invoice"]["maxAttempts"]) == ("admin", None, 3)


def test_a_schedule_is_made_shown_replaced_and_deleted(web: FlaskClient) -> None:
    body = {"type": "echo", "cron": "0 3 * * *", "timeZone": "Europe/Berlin", "payload": {"a": 1}}
    made = web.put("/api/jobs/schedules/nightly", json=body)
    assert made.status_code == 200
    assert made.json["schedule"] == web.get("/api/jobs/schedules/nightly").json["schedule"]
    assert {name: made.json["schedule"][name] for name in body} == body
    assert made.json["schedule"]["next"] is not None
    web.put("/api/jobs/schedules/nightly", json={**body, "paused": True})
    listed = web.get("/api/jobs/schedules").json["schedules"]
    assert [(each["name"], each["inCode"], each["paused"]) for each in listed] == [
        ("in-code", True, False), ("nightly", False, True),
    ]  # fmt: skip
    assert web.delete("/api/jobs/schedules/nightly").json == {"success": True, "name": "nightly"}
    assert web.delete("/api/jobs/schedules/nightly").json["code"] == "job_schedule_not_found"
    assert web.get("/api/jobs/schedules/nightly").status_code == 404


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("cron", "0 0 30 2 *"), ("cron", "0 3 * *"), ("cron", "0 0 3 * * *"), ("cron", "off"),
        ("timeZone", "Mars/Base"),
        ("catchUp", -1), ("type", ""), ("every", 5),
    ],
)  # fmt: skip
def test_a_schedule_that_never_fires_is_refused(web: FlaskClient, member: str, value: Any) -> None:
    answer = web.put("/api/jobs/schedules/x", json={"type": "echo", "cron": "0 3 * * *", member: value})
    assert (answer.status_code, list(answer.json["fields"])) == (422, [member])
    assert len(web.get("/api/jobs/schedules").json["schedules"]) == 1


def test_a_schedule_of_an_unknown_type_or_with_a_wrong_payload_is_refused(web: FlaskClient) -> None:
    unknown = web.put("/api/jobs/schedules/x", json={"type": "ecko", "cron": "0 3 * * *"})
    assert (unknown.status_code, unknown.json["code"]) == (422, "job_type_unknown")
    wrong = web.put("/api/jobs/schedules/x", json={"type": "invoice", "cron": "0 3 * * *"})
    assert (wrong.status_code, list(wrong.json["fields"])) == (422, ["payload"])


def test_a_schedule_in_code_is_not_changed(web: FlaskClient) -> None:
    for answer in (
        web.put("/api/jobs/schedules/in-code", json={"type": "echo", "cron": "0 3 * * *"}),
        web.delete("/api/jobs/schedules/in-code"),
    ):
        assert (answer.status_code, answer.json["code"]) == (409, "job_schedule_in_code")


def test_without_a_dispatcher_it_is_switched_off(settings: Settings, store: MemoryStore) -> None:
    answer = create_app(settings, store).test_client().get("/api/jobs")
    assert (answer.status_code, answer.json["code"]) == (409, "jobs_disabled")


def test_a_job_may_have_the_name_of_a_change(web: FlaskClient) -> None:
    submit(web, id="cancel")
    assert web.get("/api/jobs/cancel").status_code == 405
    assert web.get("/api/jobs?id=cancel").json["job"]["id"] == "cancel"
    submit(web, id="cancel/x")
    assert web.get("/api/jobs/cancel/x").json["job"]["id"] == "cancel/x"


@pytest.mark.parametrize(
    ("scope", "accepted"),
    [
        ("read", {"export"}), ("write", {"export", "echo"}), ("backup", {"verify"}),
        ("read+backup", {"export", "verify"}),
        ("admin", {"export", "echo", "verify", "prune"}),
    ],
)  # fmt: skip
def test_a_type_needs_its_scope(settings: Settings, web: FlaskClient, scope: str, accepted: set[str]) -> None:
    token = TokenChanges(settings).create("tester", scope, by="shell").text
    headers = {"Authorization": f"Bearer {token}"}
    for job_type in ("export", "echo", "verify", "prune"):
        answer = web.post("/api/jobs", json={"type": job_type}, headers=headers)
        expected = (201, None) if job_type in accepted else (403, "scope_missing")
        assert (answer.status_code, answer.json.get("code")) == expected, job_type


@pytest.mark.parametrize(("scope", "shown"), [("read", "(hidden)"), ("write", "(hidden)"), ("admin", "Bearer s3cret")])
def test_the_headers_of_a_webhook_are_shown_to_an_administrator_only(
    settings: Settings, web: FlaskClient, jobs: MemoryJobs, scope: str, shown: str
) -> None:
    jobs.offer(JobType(name="webhook", scope="admin"))
    payload = {"url": "https://a.example", "body": {"n": 1}, "headers": {"Authorization": "Bearer s3cret"}}
    jobs.submit(
        [JobRequest(type="webhook", id="w", payload=msgspec.Raw(json.dumps(payload).encode()))], "me", ["admin"]
    )
    payload_text = jobs.job("w").payload or msgspec.Raw()
    jobs.put_schedule(JobSchedule(name="n", type="webhook", cron="0 3 * * *", payload=payload_text))
    headers = {"Authorization": f"Bearer {TokenChanges(settings).create('tester', scope, by='shell').text}"}
    paths = ["/api/jobs/w", "/api/jobs?id=w", "/api/jobs/schedules/n", "/api/jobs/schedules", "/api/jobs"]
    answers = [web.get(path, headers=headers) for path in paths]
    of_job, by_id, of_schedule, (listed,) = (
        answers[0].json["job"], answers[1].json["job"], answers[2].json["schedule"],
        [each for each in answers[3].json["schedules"] if each["name"] == "n"],
    )  # fmt: skip
    for found in (of_job, by_id, of_schedule, listed):
        assert found["payload"] == {**payload, "headers": {"Authorization": shown}}
    for answer in answers:
        assert ("s3cret" in answer.get_data(as_text=True)) <= (scope == "admin")
    assert b"s3cret" in bytes(jobs.job("w").payload or b""), "the worker gets it"


def test_each_change_by_hand_is_in_the_audit(web: FlaskClient, store: MemoryStore) -> None:
    job_id = submit(web)
    web.post("/api/jobs/cancel", json={"ids": [job_id]})
    web.post("/api/jobs/retry", json={"ids": [job_id]})
    web.post("/api/jobs/pause", json={"type": "echo"})
    web.post("/api/jobs/resume", json={"type": "none"})
    web.put("/api/jobs/schedules/nightly", json={"type": "echo", "cron": "0 3 * * *"})
    web.delete("/api/jobs/schedules/nightly")
    lines = [line for line in store.read_audit().lines if line.state == "ended"]
    assert [(line.action, line.target, line.result, line.who) for line in lines] == [
        ("job-cancel", None, "done", "open"), ("job-retry", None, "done", "open"),
        ("job-pause", "echo", "done", "open"),
        ("job-resume", "none", "failed", "open"), ("job-schedule", "nightly", "done", "open"),
        ("job-unschedule", "nightly", "done", "open"),
    ]  # fmt: skip

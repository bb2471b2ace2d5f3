"""The form of a job that is sent: what is read, what is refused, and what the OpenAPI document says of it."""

from __future__ import annotations

from contextlib import suppress

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.errors import EventVaultError, InvalidInput, MalformedInput, TooLarge, UnsupportedMediaType
from eventvault.jobs import sent
from eventvault.jobs.job import MAX_PAYLOAD_BYTES, JobRequest

JSON, NDJSON = "application/json", "application/x-ndjson"


def test_a_job_has_all_that_it_may_have() -> None:
    text = b"""{"type": "report", "id": "1", "payload": {"n": 1.10}, "runAt": "2026-01-31T12:00:00+01:00",
    "priority": 9, "key": "k", "unique": "u", "maxAttempts": 3, "timeout": 60}"""
    (job,) = sent.read_jobs(text, JSON)
    assert (job.id, job.type, bytes(job.payload), job.run_at) == ("1", "report", b'{"n":1.10}', 1769857200000000)
    assert (job.priority, job.key, job.unique, job.max_attempts, job.timeout) == (9, "k", "u", 3, 60.0)


def test_null_is_the_same_as_nothing() -> None:
    names = ("id", "delay", "runAt", "priority", "key", "unique", "maxAttempts", "timeout", "payload")
    text = msgspec.json.encode({"type": "report", **dict.fromkeys(names)})
    assert sent.read_jobs(text, JSON) == sent.read_jobs(b'{"type": "report"}', JSON) == [JobRequest(type="report")]


@pytest.mark.parametrize("content_type", [None, JSON, "application/x-www-form-urlencoded", "text/plain", NDJSON])
def test_lines_are_told_by_what_they_are(content_type: str | None) -> None:
    jobs = sent.read_jobs(b'{"type": "a"}\r\n\n{"type": "b"}\n', content_type)
    assert [job.type for job in jobs] == ["a", "b"]


def test_one_object_over_several_lines_is_one_job() -> None:
    assert [job.type for job in sent.read_jobs(b'{\n"type":\n"a"\n}', JSON)] == ["a"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedInput),
        (b"[", MalformedInput),
        (b"{", MalformedInput),
        (b'{"type": "a", "type": "b"}', InvalidInput),
        (b'{"type": "\\ud800"}', InvalidInput),
        (b'{"type": "a", "payload": NaN}', MalformedInput),
        (b'"a"', InvalidInput),
        (b"[1]", InvalidInput),
        (b'{"type": "a", "payload": "%s"}' % (b"x" * MAX_PAYLOAD_BYTES), TooLarge),
        (b"[" + b",".join([b'{"type":"a"}'] * (sent.MAX_JOBS + 1)) + b"]", TooLarge),
    ],
)
def test_what_is_no_job_is_refused(body: bytes, error: type[EventVaultError]) -> None:
    with pytest.raises(error):
        sent.read_jobs(body, JSON)


def test_another_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        sent.read_jobs(b'{"type": "a"}', "image/png")


def test_a_message_may_have_members_that_are_unknown() -> None:
    text = b'{"type": "a", "colour": "red"}'
    assert sent.read_job(text, exact=False).type == "a"
    with pytest.raises(InvalidInput) as refused:
        sent.read_job(text)
    assert refused.value.details["fields"] == {"colour": ["Unknown field."]}


@pytest.mark.slow
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused_in_words(text: bytes) -> None:
    with suppress(InvalidInput, MalformedInput):
        assert sent.read_job(text, exact=False).type


MEMBERS = st.fixed_dictionaries(
    {"type": st.text(max_size=5) | st.integers()},
    optional={
        "id": st.text(max_size=3) | st.none(), "priority": st.integers(-2, 12) | st.booleans(),
        "delay": st.floats(-1, 5) | st.text(max_size=2), "maxAttempts": st.integers(-1, 2000) | st.floats(0, 3),
        "timeout": st.floats(-1, 1e9), "key": st.just(""), "payload": st.none() | st.lists(st.integers(), max_size=2),
    },
)  # fmt: skip


@pytest.mark.slow
@given(MEMBERS)
def test_the_document_says_what_is_taken(members: dict[str, object]) -> None:
    """A whole number that is written as 1.0 is one for JSON Schema, and for msgspec too."""
    is_valid = jsonschema_rs.Draft202012Validator(sent.json_schema()).is_valid(members)
    try:
        sent.read_job(msgspec.json.encode(members))
        was_taken = True
    except InvalidInput:
        was_taken = False
    assert was_taken == is_valid

"""Payloads against the schemas that workers have sent."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventvault.jobs import checking
from eventvault.jobs.job import JobType


def test_a_schema_of_a_worker_has_nothing_read_that_it_refers_to(tmp_path: Path) -> None:
    other = tmp_path / "schema.json"
    other.write_text('{"type": "string"}')
    schema = msgspec.Raw(msgspec.json.encode({"$ref": other.as_uri()}))
    (problem,) = checking.problems_of(msgspec.Raw(b"5"), JobType(name="report", schema=schema))["payload"]
    assert problem.startswith("It cannot be checked")

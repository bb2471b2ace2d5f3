"""`POST /api/backup/prune`: the plan, and the removal."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from eventvault.store.memory import archives


@pytest.fixture
def made(web: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of three backups, the newest first; since then only one stays."""
    web.post("/api/events", json={"type": "a", "id": "one"})
    names = [web.post("/api/backup/create").json["name"] for _ in range(3)]
    monkeypatch.setattr(archives, "RULES", archives.Rules(newest=1, zone=archives.UTC))
    return names[::-1]


@pytest.mark.slow
def test_a_dry_run_answers_with_the_plan_and_removes_nothing(web: FlaskClient, made: list[str]) -> None:
    answer = web.post("/api/backup/prune", json={"dryRun": True})
    assert (answer.status_code, answer.json["success"], answer.json["dryRun"]) == (200, True, True)
    plan = answer.json["plan"]
    assert [(each["name"], each["keptBy"]) for each in plan["keep"]] == [(made[0], ["newest", "last-good"])]
    assert [each["name"] for each in plan["remove"]] == made[1:]
    assert plan["freesBytes"] == sum(each["freesBytes"] for each in plan["remove"])
    assert {"goodLeft", "window", "lost", "journal", "tooLargeBy", "notes"} <= plan.keys()
    listed = web.get("/api/backup/list").json["backups"]
    assert [(each["name"], each["keptBy"]) for each in listed] == [
        (made[0], ["newest", "last-good"]),
        (made[1], []),
        (made[2], []),
    ]


@pytest.mark.parametrize("body", [None, b"", b'{"dryRun": false}'])
def test_a_prune_removes_what_the_plan_says(web: FlaskClient, made: list[str], body: bytes | None) -> None:
    answer = web.post("/api/backup/prune", data=body)
    assert answer.status_code == 200
    assert (answer.json["dryRun"], answer.json["removed"]) == (False, made[:0:-1])
    assert answer.json["freedBytes"] == answer.json["plan"]["freesBytes"] > 0
    assert [each["name"] for each in web.get("/api/backup/list").json["backups"]] == made[:1]


@pytest.mark.parametrize(
    "body", [b'{"dryrun": true}', b'{"dryRun": "perhaps"}', b'{"dryRun": 0}', b"[]", b'{"keep": 1}']
)
def test_a_prune_that_is_not_understood_removes_nothing(web: FlaskClient, made: list[str], body: bytes) -> None:
    assert web.post("/api/backup/prune", data=body).status_code in (400, 422)
    assert web.post("/api/backup/prune?dryRun=true").status_code == 422
    assert len(web.get("/api/backup/list").json["backups"]) == len(made)

"""`/api/problems`: an operator accepts a problem that health names until somebody decides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process

ADDRESS = "/api/problems/{}/accept"


@pytest.fixture
def problems(store: MemoryStore) -> list[Problem]:
    store.problems.waiting = [
        Problem("clock_ahead", "the clock is ahead", "set the clock", since=1_700_000_000_123_000),
        *(Problem("kafka_messages_gone", "gone", "accept it", about=f"events/{number}") for number in (1, 2)),
    ]
    return store.problems.waiting


@pytest.mark.slow
def test_a_problem_is_accepted_once(web: FlaskClient, problems: list[Problem]) -> None:
    health: Any = web.get("/api/health").json
    assert health["status"] == "degraded"
    assert health["problems"][0] == {
        "code": "clock_ahead",
        "message": "the clock is ahead",
        "hint": "set the clock",
        "about": None,
        "since": "2023-11-14T22:13:20.123Z",
        "acceptable": True,
    }

    accepted, again = web.post(ADDRESS.format("clock_ahead")), web.post(ADDRESS.format("clock_ahead"))

    assert (accepted.status_code, accepted.json["success"], accepted.json["code"]) == (200, True, "clock_ahead")
    assert accepted.json["message"] == "the clock is ahead"
    assert (again.status_code, again.json["code"]) == (409, "nothing_to_accept")


def test_the_body_names_one_of_several(web: FlaskClient, problems: list[Problem]) -> None:
    address = ADDRESS.format("kafka_messages_gone")
    several, wrong = web.post(address), web.post(address, json={"about": 3})

    assert (several.status_code, several.json["code"], "about" in several.json["fields"]) == (422, "invalid", True)
    assert (wrong.status_code, wrong.json["fields"]) == (422, {"about": ["Not a valid string."]})
    assert web.post(address, json={"about": "events/3"}).status_code == 409
    assert web.post(address, json={"about": "events/2"}).json["about"] == "events/2"
    assert [problem.about for problem in problems] == [None, "events/1"]


@pytest.mark.slow
@pytest.mark.parametrize("code", ["none", "ROLLED_BACK", "a%2Fb", "%00"])
def test_an_unknown_code_is_not_found(web: FlaskClient, code: str) -> None:
    assert web.post(ADDRESS.format(code)).status_code == 404


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["rolled_back"], 3, "nothing_to_accept"),
        (["nothing_like_it"], 3, "problem_not_found"),
        (["kafka_messages_gone"], 5, "invalid"),
        (["kafka_messages_gone", "--about", "events/3"], 3, "nothing_to_accept"),
        (["clock_ahead"], 5, "invalid"),
    ],
)
def test_the_command_says_what_cannot_be_accepted_before_nobody_can_be_asked(
    settings: Settings, store: MemoryStore, problems: list[Problem], arguments: list[str], status: int, code: str
) -> None:
    done = in_process(settings, store)("problems", "accept", *arguments, "--json")
    assert (done.exit_code, json.loads(done.stdout)["code"]) == (status, code)
    assert ("nobody can be asked" in done.stdout or "nothing is asked" in done.stdout) is (arguments == ["clock_ahead"])
    assert len(problems) == 3

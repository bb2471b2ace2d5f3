"""A problem that waits for a decision, through the real service and the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.problems import OpenProblems, Problem
from tests.command_line import Command
from tests.service import Service

ADDRESS = "/api/problems/kafka_messages_gone/accept"


@pytest.fixture
def reported(settings_environment: dict[str, str]) -> None:
    """An earlier store reported two problems."""
    storage = Path(settings_environment["STORAGE_DIR"])
    storage.mkdir()
    problems = OpenProblems(storage)
    for partition in ("a", "b"):
        problems.report(Problem("kafka_messages_gone", f"messages of {partition} are gone", "accept", about=partition))


def about(running: Service) -> list[str]:
    return [problem["about"]["name"] for problem in running.get("/api/health").json()["problems"]]


@pytest.mark.usefixtures("reported")
def test_what_was_accepted_stays_so_when_the_store_is_killed(service: Callable[..., Service]) -> None:
    running = service(workers=1)
    assert about(running) == ["a", "b"]
    assert running.get("/api/health").json()["status"] == "degraded"
    assert running.post(ADDRESS).status == 422

    assert running.post(ADDRESS, {"about": "a"}).status == 200
    assert running.post(ADDRESS, {"about": "a"}).status == 409
    (store,) = running.stores()
    os.kill(store, signal.SIGKILL)
    running.wait_for_other_store([store])

    assert about(running) == ["b"]
    assert "an operator accepted kafka_messages_gone: messages of a are gone" in running.log()
    assert running.post(ADDRESS).json()["about"] == "b"
    assert running.get("/api/health").json()["status"] == "ok"
    assert running.post("/api/problems/never/accept").status == 404


@pytest.mark.usefixtures("reported")
def test_the_command_line_lists_and_accepts(service: Callable[..., Service], flask: Command) -> None:
    running = service(workers=1)

    text = flask("problems", "list").stdout
    assert "messages of a are gone" in text
    assert "flask problems accept kafka_messages_gone --about b" in text
    unanswered = flask("problems", "accept", "kafka_messages_gone", "--about", "a")
    assert (unanswered.returncode, "--yes" in unanswered.stderr) == (5, True)
    assert about(running) == ["a", "b"]

    accepted = flask("problems", "accept", "kafka_messages_gone", "--about", "a", "--yes", "--json")
    assert (accepted.returncode, json.loads(accepted.stdout)["about"]) == (0, "a"), accepted.stderr
    for arguments, status in ((("kafka_messages_gone", "--about", "a"), 3), (("never",), 3)):
        assert flask("problems", "accept", *arguments, "--yes").returncode == status
    left = json.loads(flask("problems", "list", "--json").stdout)
    assert [problem["about"]["name"] for problem in left["problems"]] == ["b"]
    assert flask("problems", "accept", "kafka_messages_gone", "--yes").returncode == 0
    assert flask("problems", "list").stdout == "No problems.\n"

"""Every state of the service × every verb: what `tests/states/answers.csv` says, never a 500, never a wait without end.

ANSWERS=write makes the table anew; `docs/errors.md` shows it (`make docs`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors_docs
from tests.states.states import NEEDS_ROOT, STATES, Given, Installation, make_installation
from tests.states.verbs import READS, VERBS, WITHOUT_STATE, cell_of, commands, routes

DEADLINE_SECONDS = 60
"""No verb of these small installations takes longer, however busy the machine is."""
NOTHING_TO_READ = {"store away", "restoring", "database damaged", "fresh"}
UNKNOWN_YET = [("store stuck", "GET /api/events (asOf)")]
"""What is being written may belong to the present moment; it would be wrong to answer before that is known."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    return make_installation(tmp_path_factory.mktemp("installation"))


@pytest.mark.process
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.root if name in NEEDS_ROOT else ()) for name in STATES]
)
def test_each_verb_answers_what_the_table_says(
    name: str, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, slow = {}, {}
    with STATES[name](Given(installation, tmp_path, monkeypatch)) as surface:
        for verb, run in VERBS.items():
            surface.renew()
            began = time.monotonic()
            found[verb] = cell_of(run(surface))
            slow[verb] = time.monotonic() - began
    if os.environ.get("ANSWERS") == "write":
        table = errors_docs.read_table() if errors_docs.TABLE.exists() else {}
        errors_docs.write_table({**table, name: found})
    assert not {verb: seconds for verb, seconds in slow.items() if seconds > DEADLINE_SECONDS}
    expected = errors_docs.read_table()[name]
    assert {verb: cell for verb, cell in found.items() if cell != expected[verb]} == {}


def test_no_cell_is_an_internal_error() -> None:
    table = errors_docs.read_table()
    assert [(state, verb) for state in table for verb, cell in table[state].items() if "500" in cell] == []
    assert [(state, verb) for state in table for verb, cell in table[state].items() if "internal" in cell] == []


def test_reads_answer_wherever_there_is_something_to_read() -> None:
    table = errors_docs.read_table()
    of_events = [verb for verb in READS if verb.startswith("GET /api/events")]
    refused = [(name, verb) for name in table if name not in NOTHING_TO_READ for verb in of_events
               if table[name][verb] != "200"]  # fmt: skip
    assert refused == UNKNOWN_YET
    of_jobs = [verb for verb in READS if verb.startswith("GET /api/jobs")]
    without = {name for name in table for verb in of_jobs if table[name][verb] != "200"}
    assert without == {"fresh", "store away"}  # jobs are switched off, or no store starts a dispatcher
    assert [name for name in table if table[name]["GET /api/health"] != "200"] == []


def test_the_table_has_each_state_and_each_verb_that_there_is(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with STATES["store away"](Given(installation, tmp_path, monkeypatch)) as surface:
        there = {*routes(surface.app), *commands()} - WITHOUT_STATE
    named = {verb.partition(" (")[0] for verb in VERBS}
    assert there - named == set()
    table = errors_docs.read_table()
    assert set(table) == set(STATES)
    assert all(set(cells) == set(VERBS) for cells in table.values())


def test_the_page_is_what_the_declarations_say() -> None:
    assert (errors_docs.PROJECT / "docs" / "errors.md").read_text() == errors_docs.page(), "run: make docs"

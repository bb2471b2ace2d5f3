"""`flask kafka quarantine`: list, show, replay and drop, on a double of the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from click.testing import Result

from app.cli import options, quarantine
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process
from tests.quarantine import EVERYTHING, ids_of, letter, put_letters

Quarantine = Callable[..., Result]
EVENT = b'{"type": "order.created", "id": "1"}'


@pytest.fixture
def flask(settings: Settings, store: MemoryStore) -> Quarantine:
    put_letters(store, letter(9912, b"\xff", "it is not JSON: \x1b[31m"))
    put_letters(store, letter(9913, EVENT, "the header content-type is not UTF-8", headers=[("content-type", b"\xff")]))
    return partial(in_process(settings, store), "kafka", "quarantine")


def test_the_list_shows_where_when_and_why(flask: Quarantine) -> None:
    done = flask("list", "--utc")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["OFFSET", "WHEN", "(UTC)", "WHY"]
    assert lines[1].startswith("events/0@9913")
    assert lines[1].endswith("the header content-type is not UTF-8")
    assert "\x1b" not in done.stdout
    assert flask("list", "--limit", "1").stdout.endswith("1 of 2 messages.\n")
    assert flask("list", "--topic", "x").stdout == "The quarantine has no such message; 2 in all.\n"
    as_json = orjson.loads(flask("list", "--json").stdout)
    assert [each["id"] for each in as_json["quarantine"]] == ["events/0@9913", "events/0@9912"]


def test_one_message_is_shown_with_its_bytes(flask: Quarantine) -> None:
    shown = flask("show", "events/0@9913").stdout
    assert 'value        {"type": "order.created", "id": "1"}\n' in shown
    assert "header       content-type: base64 /w==" in shown
    assert "key          key" in shown
    assert orjson.loads(flask("show", "events/0@9912", "--json").stdout)["message"]["value"]["base64"] == "/w=="
    assert flask("show", "events/0@1").exit_code == 3
    assert flask("show", "events").exit_code == 5


@pytest.mark.parametrize("mode", ["plain", "cloudevents"])
def test_a_replay_appends_what_is_an_event_and_says_what_stays(
    flask: Quarantine, store: MemoryStore, mode: str
) -> None:
    done = flask("replay", "events/0@9913", "events/0@9912", "--as", mode)
    assert done.exit_code == 8
    assert done.stdout.splitlines()[0] == "1 event appended."
    assert done.stdout.splitlines()[1].startswith("events/0@9912 stays: the message is not JSON")
    assert ids_of(store) == ["events/0@9912"]
    assert flask("replay", "events/0@9912").exit_code == 5
    assert flask("replay", "events/0@9913").exit_code == 3


def test_a_filter_shows_what_it_means_before_it_asks(
    flask: Quarantine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flask("replay", "--all").exit_code == 5
    monkeypatch.setattr(options, "can_ask", lambda: True)
    asked = flask("drop", "--reason", "json", input="n\n")
    assert "events/0@9912" in asked.output
    assert "Drop exactly these?" in asked.output
    assert len(ids_of(store)) == 2
    assert flask("drop", "--reason", "json", input="y\n").stdout == "1 message dropped.\n"
    assert flask("replay", "--all", "--as", "plain", "--yes").stdout == "1 event appended.\n"
    assert ids_of(store) == []
    assert flask("drop", "--all", "--yes").stdout == flask("replay", "--all", "--yes").stdout == "There is none.\n"


def test_a_drop_by_id_asks_too(flask: Quarantine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flask("drop", "events/0@9912").exit_code == 5
    assert flask("drop", "events/0@9912", "--json").exit_code == 5
    monkeypatch.setattr(options, "can_ask", lambda: True)
    assert flask("drop", "events/0@9912", input="n\n").exit_code == 1
    assert len(ids_of(store)) == 2
    assert orjson.loads(flask("drop", "events/0@9912", "events/0@9913", "--yes", "--json").stdout)["dropped"] == 2
    assert flask("drop", "events/0@9912", "--yes").exit_code == 3


def test_a_drop_of_several_ids_drops_none_if_one_is_not_there(flask: Quarantine, store: MemoryStore) -> None:
    refused = flask("drop", "events/0@9912", "events/0@1", "events/0@9913", "--yes")
    assert (refused.exit_code, "events/0@1" in refused.stderr) == (3, True)
    assert len(ids_of(store)) == 2


def test_many_ids_are_looked_for_before_one_is_replayed(
    flask: Quarantine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "_PAGE", 1)
    assert flask("replay", "events/0@9913", "events/0@1", "--as", "plain").exit_code == 3
    assert len(ids_of(store)) == 2
    done = flask("replay", "events/0@9913", "events/0@9912", "--as", "plain")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (8, "1 event appended.")


def test_what_leaves_between_two_pages_of_a_replay_is_said_at_the_end(
    flask: Quarantine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "_PAGE", 1)
    replay = store.kafka_control.replay_quarantined

    def replay_and_drop(ids: Any, mode: Any = None) -> Any:
        results = replay(ids, mode)
        store.kafka_control.drop_quarantined(EVERYTHING)
        return results

    monkeypatch.setattr(store, "replay_quarantined", replay_and_drop)
    done = flask("replay", "--all", "--as", "plain", "--yes")
    assert (done.exit_code, done.stdout) == (8, "1 event appended.\nevents/0@9912 is not in the quarantine\n")


def test_a_filter_drops_no_message_that_came_since_it_was_asked(
    flask: Quarantine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "can_ask", lambda: True)
    drop = store.kafka_control.drop_quarantined

    def drop_later(*arguments: Any) -> int:
        put_letters(store, letter(9914, b"\xff", "it is not JSON"))
        return drop(*arguments)

    monkeypatch.setattr(store, "drop_quarantined", drop_later)
    assert flask("drop", "--reason", "json", input="y\n").stdout == "1 message dropped.\n"
    assert ids_of(store) == ["events/0@9914", "events/0@9913"]


@pytest.mark.parametrize(
    "arguments", [(), ("events/0@1", "--all"), ("--all", "--topic", "x"), ("a", "--partition", "1")]
)
@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_a_command_that_does_not_say_what_is_refused(flask: Quarantine, verb: str, arguments: tuple[str, ...]) -> None:
    assert flask(verb, *arguments, "--yes").exit_code == 2

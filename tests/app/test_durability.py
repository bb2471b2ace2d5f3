"""`POST /api/events?durability=kafka`: the answer waits for Kafka, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.streams import published
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.processes import wait_until

ADDRESS = "/api/events?durability=kafka"


@pytest.fixture
def app(settings_with: Callable[..., Settings], store: MemoryStore) -> Flask:
    publishing = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_PUBLISH_TOPIC": "published"}
    return create_app(settings_with(publishing), store, shared_seconds=0.0)


def let_publish(store: MemoryStore, upto: int) -> None:
    with store.state.changed:
        store.state.published = upto
        store.state.changed.notify_all()


@pytest.mark.slow
def test_the_answer_comes_once_kafka_has_all_events(web: FlaskClient, store: MemoryStore) -> None:
    timer = threading.Timer(0.2, let_publish, (store, 2))
    began = time.monotonic()
    timer.start()
    answer = web.post(ADDRESS, json=[{"type": "a", "id": "1"}, {"type": "a", "id": "2"}])
    timer.join()
    assert (answer.status_code, answer.json["kafka"], answer.json["accepted"]) == (201, "published", 2)
    assert time.monotonic() - began >= 0.2

    again = web.post(ADDRESS, json={"type": "a", "id": "2"})
    assert (again.status_code, again.json["kafka"], again.json["duplicates"]) == (200, "published", 1)


@pytest.mark.slow
def test_an_event_that_kafka_does_not_take_is_not_called_published(web: FlaskClient, store: MemoryStore) -> None:
    store.state.refused = (2,)
    let_publish(store, 3)
    large = [{"type": "a", "id": "1"}, {"type": "a", "id": "2"}]
    answer = web.post(ADDRESS, json=large)
    assert (answer.status_code, answer.json["kafka"], answer.json["accepted"]) == (201, "refused", 2)
    again = web.post(ADDRESS, json=large)
    assert (again.status_code, again.json["kafka"]) == (200, "refused")
    other = web.post(ADDRESS, json={"type": "a", "id": "3"})
    assert (other.status_code, other.json["kafka"]) == (201, "published")


@pytest.mark.slow
def test_after_a_while_it_is_pending_and_the_events_are_stored(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PATIENCE_SECONDS", 0.1)
    answer = web.post(ADDRESS, json={"type": "a", "id": "1"})
    assert (answer.status_code, answer.json["kafka"], answer.json["accepted"]) == (202, "pending", 1)
    assert web.get("/api/events/1").status_code == 200


@pytest.mark.slow
def test_without_the_word_nobody_waits(web: FlaskClient) -> None:
    answer = web.post("/api/events", json={"type": "a"})
    assert (answer.status_code, "kafka" in answer.json) == (201, False)


@pytest.mark.slow
def test_an_unknown_word_is_refused_and_nothing_is_stored(web: FlaskClient) -> None:
    answer = web.post("/api/events?durability=paper", json={"type": "a"})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["durability"])
    assert web.get("/api/events").json["events"] == []


def test_where_nothing_is_published_nothing_can_wait_for_it(settings: Settings, store: MemoryStore) -> None:
    web = create_app(settings, store).test_client()
    answer = web.post(ADDRESS, json={"type": "a"})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["durability"])
    assert "KAFKA_PUBLISH_TOPIC" in answer.json["hint"]
    assert web.get("/api/events").json["events"] == []


@pytest.mark.slow
def test_a_restore_in_between_leaves_it_pending(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether Kafka has an event of the generation before, nobody can say."""
    monkeypatch.setattr(published, "PATIENCE_SECONDS", 0.3)
    name = web.post("/api/backup/create").json["name"]

    def restore() -> None:
        wait_until(lambda: store.state.events, "the event is not stored")
        store.restore(name)
        let_publish(store, 5)

    restoring = threading.Thread(target=restore)
    restoring.start()
    answer = web.post(ADDRESS, json={"type": "a", "id": "1"})
    restoring.join()
    assert (answer.status_code, answer.json["kafka"]) == (202, "pending")

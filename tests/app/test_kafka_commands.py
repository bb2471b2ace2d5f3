"""`flask kafka status` and `accept`, on a double of the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from click.testing import Result

from app.cli import kafka, options
from eventvault import clock
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from tests.command_line import in_process
from tests.transcripts import session, without_what_varies

Kafka = Callable[..., Result]


def gone(partition: int = 2) -> Problem:
    details = {"topic": "events", "partition": partition, "begins": 425_424, "lost": 1_204}
    return Problem("kafka_messages_gone", "they are gone", "accept it", about=f"events/{partition}", details=details)


def partition(
    number: int, state: str, following: int | None, lag: int | None, seconds: float | None, topic: str = "events"
) -> dict[str, Any]:
    last = None if seconds is None else clock.format_milliseconds(clock.now() - round(seconds * 1e6))
    return {
        "topic": topic, "partition": number, "state": state, "next": following, "lag": lag, "lastMessageAt": last,
    }  # fmt: skip


def topic(name: str, partitions: int = 3, error: str | None = None) -> dict[str, Any]:
    return {"name": name, "exists": error is None, "partitions": partitions, "lag": None, "error": error}


@pytest.fixture
def state(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The part of the status about Kafka: partition 2 is stopped."""
    found: dict[str, Any] = {
        "configured": True, "consumes": True, "connected": True, "topic": "events", "topicExists": True,
        "pattern": None, "topics": [topic("events")],
        "brokers": [{"id": 1, "address": "kafka:9092"}], "lag": None, "stoppedPartitions": [2], "lastError": None,
        "partitions": [
            partition(0, "consuming", 431_205, 0, 3.0), partition(1, "consuming", 428_877, 184, 38.0),
            partition(2, "stopped", 424_220, None, 7_200.0),
        ],
    }  # fmt: skip
    plain = store.status
    store.kafka_control.stopped_partitions.add(("events", 2))
    store.problems.waiting = [gone()]

    def status() -> dict[str, Any]:
        stopped = store.kafka_control.stopped_partitions
        partitions = [
            each if each["state"] != "stopped" or (each["topic"], each["partition"]) in stopped
            else {**each, "state": "consuming"}
            for each in found["partitions"]
        ]  # fmt: skip
        return {**plain(), "kafka": {**found, "partitions": partitions}}

    monkeypatch.setattr(store, "status", status)
    return found


@pytest.fixture
def flask(settings: Settings, store: MemoryStore) -> Kafka:
    return partial(in_process(settings, store), "kafka")


@pytest.mark.usefixtures("state")
def test_the_status_shows_each_partition_and_why_one_is_stopped(flask: Kafka) -> None:
    done = flask("status")
    assert done.exit_code == 0, done.output
    shown = dict(session("docs/kafka.md", "Exactly once"))["flask kafka status"]
    assert without_what_varies(done.stdout.rstrip()) == without_what_varies(shown)
    assert "1          consuming      428,877     184  38 s ago\n" in done.stdout
    as_json = orjson.loads(flask("status", "--json").stdout)
    assert as_json["kafka"]["partitions"][1]["lag"] == 184


def test_with_several_topics_partitions_have_their_topic_and_topics_that_are_not_read_are_named(
    flask: Kafka, state: dict[str, Any], store: MemoryStore
) -> None:
    state |= {
        "topic": None, "topics": [topic("events"), topic("orders", 1), topic("audit", 0, "the topic audit is gone")],
        "partitions": [*state["partitions"], partition(0, "consuming", 7, 0, None, "orders")],
    }  # fmt: skip
    done = flask("status")
    assert done.exit_code == 0, done.output
    shown = dict(session("docs/kafka.md", "Several topics"))["flask kafka status"]
    assert without_what_varies(done.stdout.rstrip()) == without_what_varies(shown)
    assert flask("accept", "orders/2", "--yes").exit_code == 4
    assert flask("accept", "events/2", "--yes").stdout == "Partition events/2 goes on at 425,424.\n"
    assert store.kafka_control.stopped_partitions == set()


def test_a_long_backlog_is_shown_with_its_rate(flask: Kafka, state: dict[str, Any]) -> None:
    state["partitions"] = [partition(0, "consuming", 431_205, 940_184, 0.0)]
    state |= {"messagesPerSecond": 41_020, "remainingSeconds": 22.9}
    assert "940,184 messages behind, 41,020 consumed a second: 23 s to go.\n" in flask("status").stdout
    state |= {"messagesPerSecond": 41_020, "remainingSeconds": 0.4}
    assert "940,184 messages behind.\n" in flask("status").stdout


def test_what_waits_to_be_published_and_what_was_too_large_is_shown(
    flask: Kafka, state: dict[str, Any], store: MemoryStore
) -> None:
    state["topics"], state["partitions"] = [topic("events", 1)], [partition(0, "consuming", 431_205, 0, 3.0)]
    publish = {"topic": "published", "backlog": 0, "secondsWaiting": 0.0, "withoutData": 0, "notPublished": 0}
    state["publish"] = publish
    assert flask("status").stdout.endswith("\nPublishing to published: no event waits.\n")
    publish |= {"backlog": None, "withoutData": 2, "notPublished": 1}
    assert flask("status").stdout.endswith(
        "\nPublishing to published: the events that wait are being counted.\n"
        "1 event published without data: too large for the topic.\n"
        "1 event NOT PUBLISHED: too large even without data.\n"
    )
    late = "events have been waiting for 180 s to be published to published"
    store.problems.waiting = [Problem("kafka_publish_late", late, "look whether the brokers answer", "published")]
    publish |= {"backlog": 1_204, "secondsWaiting": 180.0, "notPublished": 0}
    shown = dict(session("docs/kafka.md", "Events to Kafka"))["flask kafka status"]
    assert without_what_varies(flask("status").stdout.rstrip()) == without_what_varies(shown)


def test_a_pattern_without_topics_is_said(flask: Kafka, state: dict[str, Any]) -> None:
    state |= {"topic": None, "topics": [], "partitions": [], "pattern": "^shop-"}
    assert flask("status").stdout == "kafka:9092 answers. No topic matches ^shop-.\n"
    assert "is not a partition of the 0 events topics" in flask("accept", "shop-a/0", "--yes").stderr


def test_why_the_brokers_refuse_is_said_with_what_to_do(
    flask: Kafka, state: dict[str, Any], store: MemoryStore
) -> None:
    store.problems.waiting = [Problem("kafka_refused", "the brokers refuse it: wrong password", "correct the password")]
    state |= {"connected": False, "partitions": []}
    refused = flask("status")
    assert refused.exit_code == 6
    assert refused.stdout == "No topic is read: the brokers refuse it: wrong password\nHINT: correct the password\n"


@pytest.mark.usefixtures("state")
def test_that_one_broker_refuses_it_is_said_beside_what_is_read(flask: Kafka, store: MemoryStore) -> None:
    store.problems.waiting = [Problem("kafka_refused", "a broker refuses it: wrong password", "correct the password")]
    shown = flask("status")
    assert shown.exit_code == 0
    assert "0          consuming      431,205" in shown.stdout
    assert "a broker refuses it: wrong password\n" in shown.stdout
    assert shown.stdout.endswith("HINT: correct the password\n")


def test_without_a_broker_and_without_a_service_it_exits_6(flask: Kafka, state: dict[str, Any]) -> None:
    state |= {"connected": False, "lastError": {"message": "refused", "at": None}, "partitions": []}
    away = flask("status")
    assert (away.exit_code, away.stdout) == (6, "No broker answers: refused. It is tried again automatically.\n")
    state["consumes"] = False
    none = flask("status", "--json")
    assert (none.exit_code, orjson.loads(none.stdout)["code"]) == (6, "store_unavailable")


def test_without_kafka_it_is_a_setting_that_lacks(flask: Kafka) -> None:
    for arguments in (("status",), ("accept", "events/0", "--yes")):
        done = flask(*arguments, "--json")
        assert (done.exit_code, orjson.loads(done.stdout)["code"]) == (78, "kafka_not_configured")


@pytest.mark.usefixtures("state")
def test_a_loss_is_accepted_by_typing_the_name(
    flask: Kafka, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "can_ask", lambda: True)
    other = flask("accept", "events/2", input="events/1\n")
    assert other.exit_code == 1
    assert store.kafka_control.stopped_partitions == {("events", 2)}
    done = flask("accept", "events/2", input="events/2\n")
    assert done.exit_code == 0, done.output
    assert "1,204 messages of events/2 are lost for good: offsets 424,220 to 425,423, after " in done.stderr
    assert "Type events/2 to go on" in done.stderr
    assert done.stdout.endswith("Partition 2 goes on at 425,424.\n")
    assert store.kafka_control.stopped_partitions == set()


@pytest.mark.usefixtures("state")
def test_nothing_is_accepted_without_an_answer_or_of_another_partition(flask: Kafka, store: MemoryStore) -> None:
    assert flask("accept", "events/2").exit_code == 5
    assert flask("accept", "events/2", "--json").exit_code == 5
    assert flask("accept", "events/1", "--yes").exit_code == flask("accept", "events/1").exit_code == 4
    for name in ("2", "other/2", "events/two", "events/"):
        assert flask("accept", name, "--yes").exit_code == 5
    assert store.kafka_control.stopped_partitions == {("events", 2)}
    done = flask("accept", "events/2", "--yes", "--json")
    assert orjson.loads(done.stdout) == {
        "success": True, "topic": "events", "partition": 2, "continues": True, "offset": 425_424,
    }  # fmt: skip


@pytest.mark.usefixtures("state")
def test_a_partition_that_does_not_go_on_yet_is_told_so(
    flask: Kafka, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "CONTINUE_SECONDS", 0.0)
    monkeypatch.setattr(store, "accept_loss", lambda number, topic: None)
    assert flask("accept", "events/2", "--yes").stdout.endswith("goes on at 425,424, as soon as a broker answers.\n")

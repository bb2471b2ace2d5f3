"""The Kafka part of health, and how often a problem is logged."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from eventvault import settings
from eventvault.kafka.monitor import GRACE_SECONDS, REPEAT_LOG_SECONDS, KafkaMonitor
from eventvault.kafka.offset_check import recreated


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def monitor(
    settings_environment: dict[str, str], time: Time, caplog: pytest.LogCaptureFixture
) -> Iterator[KafkaMonitor]:
    loaded = replace(settings.load(settings_environment), kafka_bootstrap_servers="broker:9092")
    with caplog.at_level(logging.INFO, "KafkaMonitor"):
        yield KafkaMonitor(loaded, time)


def codes(monitor: KafkaMonitor) -> list[str]:
    return [problem.code for problem in (*monitor.stopped_problems(), *monitor.problems())]


def test_a_broker_that_is_slow_to_start_is_no_problem_yet(monitor: KafkaMonitor, time: Time) -> None:
    monitor.lost("refused")
    assert codes(monitor) == []
    time.now += GRACE_SECONDS
    assert codes(monitor) == ["kafka_unreachable"]
    monitor.connected({1: "broker:9092"})
    assert codes(monitor) == []
    time.now += GRACE_SECONDS
    monitor.lost("refused")
    assert codes(monitor) == []


def test_a_broker_that_stays_away_is_logged_once(monitor: KafkaMonitor, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        monitor.lost("refused")
    monitor.connected({1: "broker:9092"})
    monitor.connected({1: "broker:9092"})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_failure_that_lasts_is_logged_once_an_hour(
    monitor: KafkaMonitor, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    assert [monitor.failed("full"), monitor.failed("full"), monitor.failed("other")] == [True, False, True]
    time.now += REPEAT_LOG_SECONDS
    assert monitor.failed("other")
    assert len(caplog.records) == 3
    monitor.connected({})
    assert codes(monitor) == ["kafka_waits"]
    monitor.recovered()
    assert codes(monitor) == []


def test_a_topic_is_only_missed_where_something_was_taken_from_it(monitor: KafkaMonitor) -> None:
    monitor.connected({1: "broker:9092"})
    monitor.topic_exists(exists=False, expected=False)
    assert (codes(monitor), monitor.snapshot()["topicExists"]) == ([], False)
    monitor.topic_exists(exists=False, expected=True)
    assert codes(monitor) == ["kafka_topic_missing"]


def test_a_snapshot_adds_up_what_the_partitions_say(monitor: KafkaMonitor) -> None:
    monitor.connected({2: "b:9092", 1: "a:9092"})
    states = {0: {"state": "consuming", "next": 4, "lag": 3}, 1: {"state": "consuming", "next": 9, "lag": 4}}
    monitor.partitions(states, {})
    monitor.batch_stored([1], events=5, duplicates=2, differing=1, dead_letters=3)
    found = monitor.snapshot()
    assert found["brokers"] == [{"id": 1, "address": "a:9092"}, {"id": 2, "address": "b:9092"}]
    assert (found["lag"], found["consumed"], found["duplicates"], found["deadLetters"]) == (7, 5, 2, 3)
    assert [state["lastMessageAt"] for state in found["partitions"]] == [None, found["lastMessageAt"]]
    monitor.partitions({**states, 1: {"state": "stopped", "next": 9, "lag": None}}, {1: recreated("events", 1)})
    found = monitor.snapshot()
    assert (found["lag"], found["stoppedPartitions"]) == (None, [1])
    assert codes(monitor) == ["kafka_topic_recreated"]
    assert "recreated" in found["lastError"]["message"]


def test_the_lag_is_not_known_once_a_connection_broke_until_brokers_answer(monitor: KafkaMonitor) -> None:
    states = {0: {"state": "consuming", "next": 4, "lag": 0}}
    monitor.connected({1: "a:9092"})
    for notice in (monitor.connection_broken, lambda: monitor.lost("refused")):
        monitor.partitions(states, {})
        assert monitor.snapshot()["lag"] == 0
        notice()
        found = monitor.snapshot()
        assert (found["lag"], found["partitions"]) == (
            None,
            [{"partition": 0, **states[0], "lag": None, "lastMessageAt": None}],
        )


def test_messages_without_a_dead_letter_are_named_until_there_is_a_topic(monitor: KafkaMonitor) -> None:
    for first in range(0, 100, 10):
        monitor.letters_sent("there is none", [f"0/{number}" for number in range(first, first + 10)])
    (problem,) = monitor.problems()
    assert (problem.code, problem.message[:3]) == ("kafka_dead_letters_missing", "100")
    assert "0/19" in problem.hint
    assert "0/20" not in problem.hint
    monitor.letters_sent(None, ["0/100"])
    assert monitor.problems() == []


def test_a_store_without_kafka_does_not_load_its_client() -> None:
    program = "import sys, eventvault.kafka.monitor; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_store_that_takes_no_events_misses_no_broker(settings_environment: dict[str, str], time: Time) -> None:
    loaded = replace(settings.load(settings_environment), kafka_bootstrap_servers="broker:9092")
    monitor = KafkaMonitor(loaded, time, consumes=False)
    time.now += GRACE_SECONDS
    assert (codes(monitor), monitor.snapshot()["consumes"]) == ([], False)

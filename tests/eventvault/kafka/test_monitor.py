"""The Kafka part of health, and how often a problem is logged."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from eventvault import settings
from eventvault.errors import PartitionNotStopped, TopicNotNamed
from eventvault.kafka.dead_letters import undelivered
from eventvault.kafka.followed_topics import refused
from eventvault.kafka.log_pace import HOUR
from eventvault.kafka.monitor import GRACE_SECONDS, KafkaMonitor, TopicState
from eventvault.kafka.offset_check import recreated
from eventvault.kafka.values import QuarantineContents
from eventvault.topic_names import EventsTopics


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
    with caplog.at_level(logging.INFO, "KafkaMonitor"):
        yield monitor_of("events", settings_environment, time)


def monitor_of(topics: str, environment: dict[str, str], time: Time) -> KafkaMonitor:
    loaded = settings.load(environment)
    return KafkaMonitor(
        replace(loaded, kafka_bootstrap_servers="broker:9092", kafka_events_topic=EventsTopics(topics)), time
    )


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
    time.now += HOUR
    assert monitor.failed("other")
    assert len(caplog.records) == 3
    monitor.connected({})
    assert codes(monitor) == ["kafka_waits"]
    monitor.recovered()
    assert codes(monitor) == []


def test_a_topic_is_only_missed_at_once_where_something_was_taken_from_it(monitor: KafkaMonitor, time: Time) -> None:
    monitor.connected({1: "broker:9092"})
    monitor.topics([TopicState("events", exists=False)])
    assert (codes(monitor), monitor.snapshot()["topicExists"]) == ([], False)
    monitor.topics([TopicState("events", exists=False, expected=True)])
    assert codes(monitor) == ["kafka_topic_missing"]
    assert monitor.problems()[0].degrades
    monitor.topics([TopicState("events", exists=False)])
    time.now += GRACE_SECONDS
    (problem,) = monitor.problems()
    assert (problem.code, problem.about, problem.degrades) == ("kafka_topic_missing", "events", False)
    assert "KAFKA_EVENTS_TOPIC" in problem.hint
    monitor.topics([TopicState("events")])
    assert codes(monitor) == []


def test_a_snapshot_adds_up_what_the_partitions_say(monitor: KafkaMonitor) -> None:
    monitor.connected({2: "b:9092", 1: "a:9092"})
    states = {0: {"state": "consuming", "next": 4, "lag": 3}, 1: {"state": "consuming", "next": 9, "lag": 4}}
    monitor.topics([TopicState("events", partitions=states)])
    monitor.batch_stored([("events", 1)], events=5, duplicates=2, differing=1, dead_letters=3)
    found = monitor.snapshot()
    assert found["brokers"] == [{"id": 1, "address": "a:9092"}, {"id": 2, "address": "b:9092"}]
    assert (found["lag"], found["consumed"], found["duplicates"], found["deadLetters"]) == (7, 5, 2, 3)
    assert [state["lastMessageAt"] for state in found["partitions"]] == [None, found["lastMessageAt"]]
    stopped = {**states, 1: {"state": "stopped", "next": 9, "lag": None}}
    monitor.topics([TopicState("events", partitions=stopped, stopped={1: recreated("events", 1)})])
    found = monitor.snapshot()
    assert (found["lag"], found["stoppedPartitions"]) == (None, [1])
    assert codes(monitor) == ["kafka_topic_recreated"]
    assert "recreated" in found["lastError"]["message"]


def test_a_backlog_is_shown_with_its_rate_and_how_long_it_lasts(
    settings_environment: dict[str, str], time: Time
) -> None:
    monitor = monitor_of("events", settings_environment, time)
    monitor.connected({1: "a:9092"})
    monitor.topics([TopicState("events", partitions={0: consumed(4, 50_000)})])
    found = monitor.snapshot()
    assert (found["messagesPerSecond"], found["remainingSeconds"]) == (0, None)
    for _ in range(20):
        time.now += 1.0
        monitor.batch_stored([("events", 0)], events=990, duplicates=3, differing=0, dead_letters=10)
    found = monitor.snapshot()
    assert 900 < found["messagesPerSecond"] < 1_100
    assert found["remainingSeconds"] == pytest.approx(50_000 / found["messagesPerSecond"], abs=0.1)
    monitor.connection_broken()
    assert monitor.snapshot()["remainingSeconds"] is None


def test_the_lag_is_not_known_once_a_connection_broke_until_brokers_answer(monitor: KafkaMonitor) -> None:
    states = {0: {"state": "consuming", "next": 4, "lag": 0}}
    monitor.connected({1: "a:9092"})
    for notice in (monitor.connection_broken, lambda: monitor.lost("refused")):
        monitor.topics([TopicState("events", partitions=states)])
        assert monitor.snapshot()["lag"] == 0
        notice()
        found = monitor.snapshot()
        assert (found["lag"], found["partitions"]) == (
            None,
            [{"topic": "events", "partition": 0, **states[0], "lag": None, "lastMessageAt": None}],
        )


def test_messages_without_a_dead_letter_are_named_until_there_is_a_topic(monitor: KafkaMonitor) -> None:
    for first in range(0, 100, 10):
        monitor.letters_sent("events", "there is none", [f"0/{number}" for number in range(first, first + 10)])
    (problem,) = monitor.problems()
    assert (problem.code, problem.message[:3]) == ("kafka_dead_letters_missing", "100")
    assert "0/19" in problem.hint
    assert "0/20" not in problem.hint
    monitor.letters_sent("events", None, ["0/100"])
    assert monitor.problems() == []
    monitor.letters_sent("events", "there is none", ["0/101"])
    (problem,) = monitor.problems()
    assert problem.message == "1 message of events is not an event and has no dead letter: there is none"


def test_one_message_in_the_quarantine_is_named_as_one(monitor: KafkaMonitor) -> None:
    said = []
    for count in (1, 2000):
        monitor.quarantine = QuarantineContents(count, oldest=0)
        said += [problem.message for problem in monitor.problems()]
    assert said == [
        "1 message from Kafka is not an event and waits in the quarantine, since 1970-01-01T00:00:00.000Z",
        "2,000 messages from Kafka are not events and wait in the quarantine, the oldest since "
        "1970-01-01T00:00:00.000Z",
    ]


def consumed(following: int, lag: int | None, state: str = "consuming") -> dict[str, object]:
    return {"state": state, "next": following, "lag": lag}


def test_several_topics_are_told_apart(settings_environment: dict[str, str], time: Time) -> None:
    monitor = monitor_of("shop,audit", settings_environment, time)
    monitor.connected({1: "broker:9092"})
    assert [topic["name"] for topic in monitor.snapshot()["topics"]] == ["shop", "audit"]
    shop = TopicState("shop", partitions={0: consumed(7, 2), 1: consumed(4, None, "stopped")},
                      stopped={1: recreated("shop", 1)})  # fmt: skip
    monitor.topics([TopicState("audit", partitions={1: consumed(9, 1)}), shop])
    monitor.batch_stored([("audit", 1)], events=1, duplicates=0, differing=0, dead_letters=0)
    found = monitor.snapshot()
    assert (found["topic"], found["topicExists"], found["lag"], found["stoppedPartitions"]) == (
        None, True, None, ["shop/1"],
    )  # fmt: skip
    assert [(topic["name"], topic["partitions"], topic["lag"]) for topic in found["topics"]] == [
        ("audit", 1, 1), ("shop", 2, None),
    ]  # fmt: skip
    places = [(each["topic"], each["partition"], each["lastMessageAt"] is None) for each in found["partitions"]]
    assert places == [("audit", 1, False), ("shop", 0, True), ("shop", 1, True)]
    (problem,) = monitor.stopped_problems()
    assert (problem.about, problem.details["topic"], problem.details["partition"]) == ("shop/1", "shop", 1)
    assert "/api/kafka/partitions/shop/1/accept-loss" in problem.hint
    assert monitor.find_stopped(1, "shop") == problem
    with pytest.raises(TopicNotNamed, match="2 topics"):
        monitor.find_stopped(1, None)
    for topic in ("audit", "other"):
        with pytest.raises(PartitionNotStopped, match=f"partition 1 of the topic {topic} is not stopped"):
            monitor.find_stopped(1, topic)


def test_a_partition_needs_no_topic_where_there_is_one(monitor: KafkaMonitor) -> None:
    monitor.topics([TopicState("events", partitions={2: consumed(1, None)}, stopped={2: recreated("events", 2)})])
    assert monitor.find_stopped(2, None) == monitor.find_stopped(2, "events") == monitor.stopped_problems()[0]
    with pytest.raises(PartitionNotStopped):
        monitor.find_stopped(1, None)


def test_a_pattern_that_matches_nothing_is_named_after_a_while(
    settings_environment: dict[str, str], time: Time
) -> None:
    monitor = monitor_of("^shop-", settings_environment, time)
    monitor.connected({1: "broker:9092"})
    monitor.topics([])
    assert codes(monitor) == []
    time.now += GRACE_SECONDS
    (problem,) = monitor.problems()
    assert (problem.code, problem.degrades) == ("kafka_no_topic", False)
    assert "^shop-" in problem.message
    found = monitor.snapshot()
    assert (found["topic"], found["pattern"], found["topicExists"], found["topics"]) == (None, "^shop-", False, [])
    with pytest.raises(PartitionNotStopped, match="partition 0 is not stopped"):
        monitor.find_stopped(0, None)
    monitor.topics([TopicState("shop-a")])
    assert (codes(monitor), monitor.snapshot()["topic"]) == ([], "shop-a")
    monitor.topics([TopicState("shop-a", exists=False, expected=True)])
    time.now += GRACE_SECONDS
    (gone,) = monitor.problems()
    assert (gone.code, gone.about, gone.degrades) == ("kafka_topic_missing", "shop-a", False)
    assert "exclude it from the pattern" in gone.hint


def test_a_topic_that_cannot_be_read_is_named_and_logged_once(
    monitor: KafkaMonitor, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.connected({1: "broker:9092"})
    caplog.clear()
    failing = TopicState("events", waits_for=[refused("events", 29, "no right"), undelivered("events", "too large")])
    for _ in range(3):
        monitor.topics([failing])
    assert codes(monitor) == ["kafka_topic_refused", "kafka_waits"]
    assert {problem.about for problem in monitor.problems()} == {"events"}
    assert "allow this client to Read" in monitor.problems()[0].hint
    assert monitor.snapshot()["topics"][0]["error"] == "the topic events cannot be read: no right"
    assert len(caplog.records) == 2
    time.now += HOUR
    monitor.topics([failing])
    assert len(caplog.records) == 4
    monitor.topics([TopicState("events")])
    assert (codes(monitor), len(caplog.records)) == ([], 6)


def test_messages_without_a_dead_letter_are_told_apart_by_their_topic(monitor: KafkaMonitor) -> None:
    monitor.letters_sent("a", "there is none", ["0/1"])
    monitor.letters_sent("b", "there is none", ["0/2"])
    assert [problem.about for problem in monitor.problems()] == ["a.dead-letter", "b.dead-letter"]
    monitor.letters_sent("a", None, ["0/3"])
    assert [problem.about for problem in monitor.problems()] == ["b.dead-letter"]


@pytest.mark.slow
def test_a_store_without_kafka_does_not_load_its_client() -> None:
    program = "import sys, eventvault.kafka.monitor; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_store_that_takes_no_events_misses_no_broker(settings_environment: dict[str, str], time: Time) -> None:
    loaded = replace(settings.load(settings_environment), kafka_bootstrap_servers="broker:9092")
    monitor = KafkaMonitor(loaded, time, consumes=False)
    time.now += GRACE_SECONDS
    assert (codes(monitor), monitor.snapshot()["consumes"]) == ([], False)

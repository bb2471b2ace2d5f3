"""A partition that was stopped goes on when its loss is accepted as health's hint says, through the real service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.command_line import Command
from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import Service

PATIENCE_SECONDS = 60


def events(first: int, last: int) -> list[str]:
    return [json.dumps({"id": str(number), "type": "t"}) for number in range(first, last + 1)]


@pytest.mark.kafka
def test_the_loss_of_a_recreated_topic_is_accepted_as_the_hint_says(
    kafka: Kafka, service: Callable[..., Service], eventvault: Command
) -> None:
    topic, other = kafka.topic(), kafka.topic()
    kafka.send(topic, events(1, 3))
    with_topics = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": f"{other},{topic}"}
    running = service(workers=1, environment=with_topics)

    def until(stored: int, stopped: list[str], what: str) -> None:
        def there() -> bool:
            health = running.get("/api/health").json()
            return health["store"]["events"] == stored and health["kafka"]["stoppedPartitions"] == stopped

        wait_until(there, what, PATIENCE_SECONDS)

    until(3, [], "the events do not come")
    address = f"/api/kafka/partitions/{topic}/0/accept-loss"
    assert running.post(address).status == 409
    kafka.delete(topic)
    kafka.topic(name=topic)
    kafka.send(topic, events(3, 9))
    until(3, [f"{topic}/0"], "the recreated topic is not noticed")
    kafka.send(other, events(21, 22))
    until(5, [f"{topic}/0"], "the other topic does not go on")
    unnamed = running.post("/api/kafka/partitions/0/accept-loss")
    assert (unnamed.status, unnamed.json()["code"]) == (409, "topic_not_named")
    wait_until(lambda: is_taken(running, other, 0, 2), "health does not follow the other topic", PATIENCE_SECONDS)
    shown = eventvault("kafka", "status", **with_topics).stdout
    assert f"{topic}/0" in shown
    assert re.search(rf"^{other}/0 +consuming +2 +0 ", shown, re.MULTILINE), shown

    (problem,) = running.get("/api/health").json()["problems"]
    assert re.findall(r"POST (\S+)[:;]", problem["hint"]) == [address]
    assert running.post(address).status == 202
    until(11, [], "what the new topic has does not come")
    assert running.get("/api/health").json()["status"] == "ok"
    assert running.post(address).status == 409


def is_taken(running: Service, topic: str, number: int, following: int) -> bool:
    """Whether health says that a partition was taken up to this offset, and that nothing follows."""
    partitions = running.get("/api/health").json()["kafka"]["partitions"]
    found = [(each["topic"], each["partition"], each["next"], each["lag"]) for each in partitions]
    return (topic, number, following, 0) in found


@pytest.mark.kafka
def test_the_command_line_says_what_is_lost_and_goes_on_without_it(
    kafka: Kafka, service: Callable[..., Service], eventvault: Command
) -> None:
    topic = kafka.topic(partitions=2)
    with_kafka = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic}
    name = f"{topic}/1"

    def until(running: Service, stored: int) -> None:
        def there() -> bool:
            return bool(running.get("/api/health").json()["store"]["events"] == stored)

        wait_until(there, "the events do not come", PATIENCE_SECONDS)

    kafka.send(topic, events(1, 3), partition=1)
    first = service(workers=1, environment=with_kafka)
    until(first, 3)
    wait_until(lambda: is_taken(first, topic, 1, 3), "how far the partition was taken is not said", PATIENCE_SECONDS)
    shown = eventvault("kafka", "status", **with_kafka)
    assert shown.returncode == 0, shown.stderr
    assert f"Topic {topic}, 2 partitions, 0 messages behind." in shown.stdout
    assert re.search(r"^1 +consuming +3 +0 +[\d.]+ s ago$", shown.stdout, re.MULTILINE), shown.stdout
    first.stop()
    kafka.send(topic, events(4, 9), partition=1)
    kafka.remove_before(topic, 7, partition=1)
    second = service(workers=1, environment=with_kafka)
    wait_until(
        lambda: second.get("/api/health").json()["kafka"]["stoppedPartitions"] == [1], "nothing stops", PATIENCE_SECONDS
    )
    stopped = eventvault("kafka", "status", **with_kafka).stdout
    assert re.search(r"^1 +STOPPED +3 +– +–$", stopped, re.MULTILINE), stopped
    assert "the topic begins at 7 now: 4 messages before it are gone" in stopped
    assert stopped.endswith(f"HINT: go on without them: eventvault kafka accept {name}\n")
    checks = json.loads(eventvault("doctor", "--json", **with_kafka).stdout)["checks"]
    assert [check["mend"] for check in checks if check["state"] == "wrong"] == [
        f"bring the topic back as it was, or go on without: eventvault kafka accept {name}"
    ]

    other = second.post("/api/kafka/partitions/0/accept-loss")
    assert (other.status, other.json()["code"]) == (409, "partition_not_stopped")
    accepted = eventvault("kafka", "accept", name, "--yes", **with_kafka)
    assert (accepted.returncode, accepted.stdout) == (0, "Partition 1 goes on at 7.\n"), accepted.stderr
    until(second, 5)
    assert second.get("/api/health").json()["status"] == "ok"

"""A partition that was stopped goes on when its loss is accepted as health's hint says, through the real service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import Service

PATIENCE_SECONDS = 60


def events(first: int, last: int) -> list[str]:
    return [json.dumps({"id": str(number), "type": "t"}) for number in range(first, last + 1)]


@pytest.mark.kafka
def test_the_loss_of_a_recreated_topic_is_accepted_as_the_hint_says(
    kafka: Kafka, service: Callable[..., Service]
) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(1, 3))
    running = service(workers=1, environment={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic})

    def until(stored: int, stopped: list[int], what: str) -> None:
        def there() -> bool:
            health = running.get("/api/health").json()
            return health["store"]["events"] == stored and health["kafka"]["stoppedPartitions"] == stopped

        wait_until(there, what, PATIENCE_SECONDS)

    until(3, [], "the events do not come")
    address = "/api/kafka/partitions/0/accept-loss"
    assert running.post(address).status == 409
    kafka.delete(topic)
    kafka.topic(name=topic)
    kafka.send(topic, events(3, 9))
    until(3, [0], "the recreated topic is not noticed")

    (problem,) = running.get("/api/health").json()["problems"]
    assert re.findall(r"POST (\S+)[:;]", problem["hint"]) == [address]
    assert running.post(address).status == 202
    until(9, [], "what the new topic has does not come")
    assert running.get("/api/health").json()["status"] == "ok"
    assert running.post(address).status == 409

"""What a newcomer does first with Kafka: the first block of the page, at a broker that has no topics yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests import shown
from tests.kafka_broker import PATIENCE_SECONDS, Kafka
from tests.processes import wait_until
from tests.service import Service

pytestmark = pytest.mark.kafka


def test_the_first_block_of_the_page_leads_to_an_event_and_a_service_without_problems(
    kafka: Kafka, service: Callable[..., Service]
) -> None:
    """The names of the topics differ, because other tests use the same broker."""
    block = next(each.text for each in shown.blocks("docs/kafka.md") if each.text.startswith("make run KAFKA"))
    settings = dict(re.findall(r"(KAFKA_\w+)=(\S+)", block.splitlines()[0]))
    (message,) = re.findall(r"^echo '(.*)' \|$", block, re.MULTILINE)
    assert "--create --if-not-exists --topic events" in block
    topic = kafka.name()
    running = service(workers=1, environment={
        **settings, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic, "JOBS_ENABLED": "true",
        "KAFKA_JOBS_TOPIC": kafka.name("jobs"), "KAFKA_RESULTS_TOPIC": kafka.name("results"),
        "KAFKA_JOBS_GROUP": kafka.name("group"),
    })  # fmt: skip

    def stored() -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = running.get("/api/events").json()["events"]
        return events

    kafka.topic(name=topic)
    kafka.send(topic, [message])
    wait_until(stored, "the event does not come", PATIENCE_SECONDS)
    assert [(event["type"], event["data"]) for event in stored()] == [("order.created", {"total": 19.9})]

    def is_well() -> bool:
        health = running.get("/api/health").json()
        return bool(health["status"] == "ok" and health["kafka"]["consumed"] == 1)

    wait_until(is_well, "problems stay", PATIENCE_SECONDS)

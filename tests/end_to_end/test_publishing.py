"""Publishing through the real service: what docs/kafka.md shows, waits that hold no thread, and restores."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import Reply, Service
from tests.shown import blocks

pytestmark = pytest.mark.kafka

WAITING = 60
"""More than a worker has threads."""
_POST = "/api/events?durability=kafka"


def environment_of(kafka: Kafka, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": kafka.name(), "KAFKA_PUBLISH_TOPIC": topic,
    }  # fmt: skip


def shown(begins: str) -> str:
    """The block of the page that begins so."""
    return next(block.text for block in blocks("docs/kafka.md") if block.text.startswith(begins))


def types_of(kafka: Kafka, topic: str, count: int) -> list[str]:
    return [dict(message.headers() or [])["ce_type"].decode() for message in kafka.read(topic, count)]


def test_the_page_shows_what_is_posted_answered_and_published(kafka: Kafka, service: Callable[..., Service]) -> None:
    topic = kafka.topic()
    running = service(workers=1, environment=environment_of(kafka, topic))
    words = shlex.split(shown("curl -s -d").replace("\\\n", " "))
    body, address = words[words.index("-d") + 1], words[-1].removeprefix("localhost:5050")
    # A request waits 10 s for Kafka, and on a busy machine the first connection to a broker can take longer.
    running.post("/api/events", {"type": "before"})
    kafka.read(topic, 1)

    answer = running.post(address, body.encode(), headers={"Content-Type": "application/json"})

    expected = json.loads(shown('{"success": true, "accepted": 1'))
    assert (answer.status, list(answer.json())) == (201, list(expected))
    assert answer.json()["kafka"] == expected["kafka"]
    assert answer.headers["content-type"] == "application/json"
    _, message = kafka.read(topic, 2)
    headers = dict(message.headers() or [])
    event = json.loads(body)
    assert (headers["ce_id"].decode(), headers["ce_type"].decode()) == (event["id"], event["type"])
    assert ((message.key() or b"").decode(), json.loads(message.value() or b"")) == (event["subject"], event["data"])

    def published() -> dict[str, Any]:
        found: dict[str, Any] = running.get("/api/health").json()["kafka"]["publish"]
        return found

    wait_until(lambda: published()["backlog"] == 0, "what was published waits still")
    health = published()
    assert list(health) == list(json.loads(shown('{"topic": "published"')))
    assert (health["topic"], health["backlog"], health["published"]) == (topic, 0, 2)
    metrics = running.get("/metrics").body.decode()
    for metric in ("publish_backlog", "published_without_data_total", "not_published_events_total"):
        assert re.search(rf"^eventvault_kafka_{metric} 0\.0$", metrics, re.MULTILINE)

    running.post("/api/backup/create")
    name = running.get("/api/backup/list").json()["backups"][0]["name"]
    running.post("/api/events", {"type": "later"})
    running.post("/api/backup/restore", {"backupName": name})
    expected_types = ["before", "order.created", "later", "eventvault.restored"]

    def types() -> list[str]:
        """What was on its road when the restore began may be there twice."""
        return list(dict.fromkeys(types_of(kafka, topic, kafka.total(topic))))

    wait_until(lambda: len(types()) == len(expected_types), "the restore is not published")
    assert types() == expected_types
    assert running.get("/api/health").json()["status"] == "ok"


def test_requests_that_wait_for_kafka_hold_no_thread(kafka: Kafka, service: Callable[..., Service]) -> None:
    topic = kafka.name("published")
    running = service(workers=1, environment=environment_of(kafka, topic))

    def post(number: int) -> Reply:
        return running.post(_POST, {"type": "t", "id": f"w{number}"})

    with ThreadPoolExecutor(WAITING) as pool:
        answers = [pool.submit(post, number) for number in range(WAITING)]
        wait_until(lambda: running.get("/api/health").json()["store"]["events"] == WAITING, "not all are stored")
        assert running.post("/api/events", {"type": "t"}).status == 201
        kafka.topic(name=topic)
        found = [answer.result(60) for answer in answers]
    assert {reply.status for reply in found} <= {201, 202}
    assert {(reply.status, reply.json()["kafka"]) for reply in found} <= {(201, "published"), (202, "pending")}
    assert sorted(reply.json()["results"][0]["id"] for reply in found) == sorted(f"w{n}" for n in range(WAITING))
    assert len(kafka.read(topic, WAITING + 1)) == WAITING + 1


def test_a_topic_that_is_consumed_is_refused(service: Callable[..., Service], kafka: Kafka) -> None:
    topic = kafka.name()
    more = {**environment_of(kafka, topic), "KAFKA_EVENTS_TOPIC": topic}
    refused = service(workers=1, environment=more, wait=False)
    assert refused.process.wait(60) == 78
    assert f"{topic} is the topic of the events that are published (KAFKA_PUBLISH_TOPIC)" in refused.log()

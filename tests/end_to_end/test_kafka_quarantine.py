"""The quarantine of a real service before a real broker: what the page shows, restarts, and messages of any bytes."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.command_line import Command
from tests.eventvault.kafka import raw_producer
from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import Service
from tests.shown import blocks

PATIENCE_SECONDS = 60
ADDRESS = "/api/kafka/quarantine"
LARGE = b'{"type": "large", "id": "large", "data": "' + b"x" * 1_500_000 + b'"}'


def with_kafka(kafka: Kafka, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic, "KAFKA_CREATE_TOPICS": "true",
        "AUTO_BACKUP_ENABLED": "false",
    }  # fmt: skip


def shown(begins: str) -> str:
    """The block of the page that begins so."""
    (found,) = (block.text for block in blocks("docs/kafka.md") if block.text.startswith(begins))
    return found


def is_taken(running: Service, offset: int) -> bool:
    partitions = running.get("/api/health").json()["kafka"]["partitions"]
    return any(each["next"] == offset and each["lag"] == 0 for each in partitions)


def until_taken(running: Service, offset: int) -> None:
    wait_until(lambda: is_taken(running, offset), f"the messages up to {offset} are not taken", PATIENCE_SECONDS)


def ids(running: Service) -> list[str]:
    return [each["id"] for each in running.get(f"{ADDRESS}?limit=1000").json()["quarantine"]]


@pytest.mark.kafka
def test_the_lines_of_the_page_do_what_it_says(
    kafka: Kafka, service: Callable[..., Service], eventvault: Command
) -> None:
    topic = kafka.topic()
    wrong_header = [("content-type", b"\xff")]

    def send(first: int) -> None:
        kafka.send(topic, [json.dumps({"type": "t", "id": str(first)})], headers=wrong_header)
        kafka.send(topic, [b"\xff", b"nothing"])

    send(0)
    running = service(workers=1, environment=with_kafka(kafka, topic))
    until_taken(running, 3)
    assert ids(running) == [f"{topic}/0@2", f"{topic}/0@1", f"{topic}/0@0"]

    def of_test(text: str, first: int) -> str:
        own = re.sub(r"events/0@991([234])", lambda found: f"{topic}/0@{first + int(found[1]) - 2}", text)
        return own.replace("localhost:5050", running.base.removeprefix("http://"))

    script = 'set -e; curl() { command curl --fail-with-body -sS --max-time 60 "$@"; echo; }\n' + of_test(
        shown("curl -s 'localhost:5050/api/kafka/quarantine"), 0
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed, one, replayed, dropped, filtered = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["id"] for each in listed["quarantine"]] == [f"{topic}/0@2", f"{topic}/0@1"]
    assert one["message"]["headers"] == [{"name": "content-type", "value": {"base64": "/w==", "text": None}}]
    assert (replayed["replayed"], dropped["dropped"], filtered["dropped"]) == (1, 1, 1)
    assert ids(running) == []
    assert running.get("/api/events/0").status == 200

    send(3)
    until_taken(running, 6)
    settings = {name: str(running.folder(name)) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    for line in of_test(shown("flask kafka quarantine"), 3).splitlines():
        words = line.removeprefix("flask ").split()
        command = eventvault(*words, *(["--yes"] if "drop" in words else []), **settings)
        assert command.returncode == 0, command.stdout + command.stderr
    assert ids(running) == [f"{topic}/0@5"]
    assert running.get("/api/events/3").status == 200

    before = running.get("/api/health").json()["kafka"]
    assert (before["deadLetters"], before["quarantine"]["count"]) == (6, 1)
    running.stop()
    again = service(workers=1, environment=with_kafka(kafka, topic))
    after = again.get("/api/health").json()
    assert (after["kafka"]["deadLetters"], after["kafka"]["quarantine"]) == (6, before["quarantine"])
    assert [each["code"] for each in after["problems"]] == ["kafka_quarantine"]
    assert after["status"] == "ok"


@pytest.mark.kafka
@pytest.mark.parametrize("with_topic", [True, False])
def test_a_large_message_is_fetched_from_where_it_is_for_a_replay(
    kafka: Kafka, service: Callable[..., Service], with_topic: bool
) -> None:
    topic = kafka.topic(max_message_bytes="5000000")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 5_000_000})
    producer.produce(topic, LARGE, key=b"k", headers=[("content-type", b"\xff"), ("h", b"v")])
    assert producer.flush(30) == 0
    environment = {**with_kafka(kafka, topic), "KAFKA_CREATE_TOPICS": str(with_topic).lower()}
    running = service(workers=1, environment=environment)
    until_taken(running, 1)
    (entry,) = running.get(ADDRESS).json()["quarantine"]
    expected = f"{topic}.dead-letter" if with_topic else topic
    assert entry["reference"] == {"topic": expected, "partition": 0, "offset": 0}
    assert running.get(f"{ADDRESS}?id={topic}/0@0").json()["message"]["value"] is None
    replayed = running.post(ADDRESS, {"ids": [entry["id"]], "as": "plain"}).json()
    assert replayed["results"][0]["outcome"] == "replayed", replayed
    assert running.get("/api/events/large").json()["event"]["data"] == "x" * 1_500_000
    assert ids(running) == []


@pytest.mark.kafka
def test_messages_of_any_bytes_are_events_or_dead_letters_and_the_next_one_is_taken(
    kafka: Kafka, service: Callable[..., Service]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    topic = kafka.topic()
    count = 60

    def some(most: int) -> bytes:
        return chance.randbytes(chance.randrange(most))

    keys: list[bytes | None] = []
    names = [b"ce_type", b"ce_id", b"content-type", b"CE_TYPE", b"\xff", b"", b"h"]
    for _ in range(count):
        headers = [
            (chance.choice([*names, some(9)]), chance.choice([None, some(20), some(20)]))
            for _ in range(chance.randrange(4))
        ]
        value = chance.choice([b'{"type": "t"}', b"[]", b"\xef\xbb\xbf{}", None, some(40), some(40)])
        keys.append(chance.choice([None, some(20)]))
        raw_producer.produce(kafka.bootstrap, topic, value, headers, key=keys[-1])
    for key in (None, b"", b"\xff" * 3):
        kafka.send(topic, [None, b"", b"\x00"], key=key)
    kafka.send(topic, [json.dumps({"type": "last", "id": "last"})])
    running = service(workers=1, environment=with_kafka(kafka, topic))
    until_taken(running, count + 10)
    health: dict[str, Any] = running.get("/api/health").json()
    assert health["store"]["events"] + health["kafka"]["quarantine"]["count"] >= count // 2
    assert health["kafka"]["consumed"] + health["kafka"]["deadLetters"] == count + 10
    assert running.get("/api/events/last").status == 200
    for name in ids(running):
        message = running.get(f"{ADDRESS}?id={name}").json()["message"]
        if message["offset"] < count:
            key = message["key"]
            assert (None if key is None else base64.b64decode(key["base64"])) == keys[message["offset"]]

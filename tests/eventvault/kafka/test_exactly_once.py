"""A consumer that is killed repeatedly: every message is in the registry once, in order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from eventvault.database.registry import EventRegistry, open_leveldb
from tests.kafka_broker import Kafka

pytestmark = pytest.mark.kafka

PROJECT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).parent / "consume_into_leveldb.py"
PARTITIONS = 2
MESSAGES = 6_000
KILLS = 4


def test_a_consumer_that_is_killed_loses_nothing_and_doubles_nothing(kafka: Kafka, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    topic = kafka.topic(PARTITIONS)
    for partition in range(PARTITIONS):
        kafka.send(topic, [f'{{"type": "n", "data": {n}}}' for n in range(MESSAGES)], partition=partition)
    folder = tmp_path / "event_registry_db"
    fired = 0
    for _ in range(KILLS):
        fired += consume_and_kill(kafka, topic, folder, chance.randint(1, 8)) < PARTITIONS * MESSAGES
    assert fired == KILLS, "a kill came after everything was stored: it proves nothing"
    consume_and_kill(kafka, topic, folder, None)
    assert stored(folder, topic) == [list(range(MESSAGES))] * PARTITIONS


def consume_and_kill(kafka: Kafka, topic: str, folder: Path, batches: int | None) -> int:
    """Kill the consumer after `batches` (None: once all is stored). Returns the last sequence that it printed."""
    further = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **further}
    command = [sys.executable, str(PROGRAM), str(folder)]
    last = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout, 1):
            last = int(line)
            if count == batches or last == PARTITIONS * MESSAGES:
                break
        process.kill()
    return last


def stored(folder: Path, topic: str) -> list[list[int]]:
    """The `data` of the events of each partition, in the registry's order."""
    db = open_leveldb(folder)
    try:
        registry = EventRegistry(db, folder)
        events = [orjson.loads(value) for _, value in registry.events(0, registry.last_sequence)]
    finally:
        db.close()
    return [
        [event["data"] for event in events if event["id"].startswith(f"{topic}/{partition}/")]
        for partition in range(PARTITIONS)
    ]

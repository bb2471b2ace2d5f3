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
MESSAGES = 2_500
KILLS = 4
MOST_BATCHES = 8


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
        fired += consume_and_kill(kafka, topic, folder, chance.randint(1, MOST_BATCHES)) < PARTITIONS * MESSAGES
    assert fired == KILLS, "a kill came after everything was stored: it proves nothing"
    consume_and_kill(kafka, topic, folder, None)
    assert stored(folder, topic) == [list(range(MESSAGES))] * PARTITIONS


def consume_and_kill(kafka: Kafka, topic: str, folder: Path, batches: int | None) -> int:
    """Kill the consumer after `batches` (None: once all is stored). Returns the last sequence that it printed.

    It is killed in the next batch at the latest, however late this process comes to that.
    """
    further = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **further}
    command = [sys.executable, str(PROGRAM), str(folder)]
    last = 0
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if batches is None:
            process.stdin.close()
        else:
            process.stdin.write("." * (batches + 1))
            process.stdin.flush()
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

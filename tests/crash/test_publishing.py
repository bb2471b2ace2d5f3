"""The store and the broker are killed while events are posted: the topic has each of them, in order per subject."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until
from tests.service import Service

pytestmark = [pytest.mark.process, pytest.mark.kafka]

SUBJECTS = 4
PATIENCE_SECONDS = 120


class Posting:
    """A client for each subject, which posts batches, each sent again until it is acknowledged."""

    def __init__(self, port: int) -> None:
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(f"s{number}",)) for number in range(SUBJECTS)]

    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def advance(self, events: int) -> None:
        wanted = self.count() + events
        wait_until(lambda: self.count() >= wanted, "no event is acknowledged", PATIENCE_SECONDS)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _post(self, subject: str) -> None:
        chance = random.Random(subject)
        number = 0
        while not self._over.is_set():
            names = [f"{subject}-{number + each}" for each in range(chance.randint(1, 20))]
            body = json.dumps([{"type": "t", "id": name, "subject": subject} for name in names])
            while not self._is_acknowledged(body):
                if self._over.wait(0.05):
                    return
            self.acknowledged[subject] += names
            number += len(names)

    def _is_acknowledged(self, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/api/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status in (200, 201)
        connection.close()
        return False


def kill_store(running: Service) -> None:
    for pid in running.stores():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until_published(running: Service) -> None:
    """Wait as long as it goes on: on a busy machine a store may be killed before it publishes, again and again."""

    left = [-1]

    def goes_on() -> bool:
        with suppress(OSError, http.client.HTTPException, KeyError, TypeError):
            publish = running.get("/api/health").json()["kafka"]["publish"]
            if publish["publishedSequence"] is not None and publish["backlog"] not in (None, left[-1]):
                left.append(publish["backlog"])
                return True
        return False

    while left[-1] != 0:
        wait_until(goes_on, f"{left[-1]} events are not published", PATIENCE_SECONDS)


def check_topic(kafka: Kafka, topic: str, acknowledged: dict[str, list[str]], partitions: int) -> None:
    """Each acknowledged event is there; the first message of each is in order per subject."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for message in kafka.read(topic, kafka.total(topic), partitions):
        name = dict(message.headers() or [])["ce_id"].decode()
        found[(message.key() or b"").decode()][name] = None
    for subject, names in acknowledged.items():
        first, wanted = list(found[subject]), set(names)
        assert [name for name in first if name in wanted] == names
        numbers = [int(name.rpartition("-")[2]) for name in first]
        assert numbers == sorted(numbers)


def publishing(service: Callable[..., Service], kafka: Kafka, topic: str) -> Service:
    """Return a service that publishes to `topic`, and consumes a topic in which nothing is."""
    brokers = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": kafka.name()}
    return service(workers=1, environment={**brokers, "KAFKA_PUBLISH_TOPIC": topic})


@pytest.mark.parametrize("kills", [pytest.param(2, id="short"), pytest.param(60, id="long", marks=pytest.mark.soak)])
def test_kills_of_the_store_leave_nothing_unpublished(
    kafka: Kafka, service: Callable[..., Service], kills: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    topic = kafka.topic(partitions=3)
    running = publishing(service, kafka, topic)
    posting = Posting(running.port)
    with posting.running():
        for _ in range(kills):
            posting.advance(chance.randint(1, 400))
            kill_store(running)
        posting.advance(1)
    wait_until_published(running)
    check_topic(kafka, topic, posting.acknowledged, 3)


@pytest.mark.soak
def test_kills_of_store_and_broker_leave_nothing_unpublished(
    private_kafka: KafkaBroker, service: Callable[..., Service]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    private_kafka.start()
    kafka = Kafka(private_kafka.bootstrap)
    topic = kafka.topic(partitions=3)
    running = publishing(service, kafka, topic)
    posting = Posting(running.port)
    with posting.running():
        for _ in range(100):
            posting.advance(chance.randint(1, 1000))
            if chance.random() < 0.3:
                private_kafka.stop(signal.SIGKILL)
                posting.advance(chance.randint(1, 100))
                private_kafka.start()
            else:
                kill_store(running)
    wait_until_published(running)
    check_topic(kafka, topic, posting.acknowledged, 3)

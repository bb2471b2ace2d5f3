"""kill -9 of the store, and of the broker, while events flow in from three topics: each event is there once, in order.

`make test` kills the store, `make soak` also the broker, which needs seconds to come back.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import plyvel
import pytest
from confluent_kafka import Producer

from eventvault.database.registry import EventRegistry, open_leveldb
from tests.kafka_broker import Kafka, SecuredKafka, User, or_skip
from tests.kafka_process import KafkaBroker
from tests.processes import kill, wait_until
from tests.schedule import series_seed
from tests.service import Service

pytestmark = pytest.mark.kafka

PARTITIONS = 2
PATIENCE_SECONDS = 90
DURING_START = 0.4
"""How often a store is killed that may not have begun to consume."""
Place = tuple[str, int]


class Flow:
    """Sends events to the partitions in turn, each with a number in its partition, whatever becomes of the broker."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self.sent: dict[Place, int] = defaultdict(int)
        self._turn: Iterator[Place] = cycle((topic, number) for number in range(PARTITIONS) for topic in topics)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        )

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    def send(self, count: int) -> None:
        for _ in range(count):
            topic, partition = place = next(self._turn)
            value = b'{"type": "n", "data": %d}' % self.sent[place]
            while True:
                with suppress(BufferError):
                    self._producer.produce(topic, value, partition=partition)
                    break
                self._producer.poll(0.1)
            self.sent[place] += 1
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(PATIENCE_SECONDS) == 0, "the broker does not take the events"


@contextmanager
def broker_of(request: pytest.FixtureRequest, *, killed: bool) -> Iterator[tuple[Kafka, KafkaBroker | None]]:
    if not killed:
        yield request.getfixturevalue("kafka"), None
        return
    broker: KafkaBroker = request.getfixturevalue("private_kafka")
    broker.start()
    yield Kafka(broker.bootstrap), broker


def kill_store(running: Service) -> None:
    found: list[int] = []

    def is_there() -> bool:
        found[:] = running.stores()
        return bool(found)

    wait_until(is_there, "there is no store", PATIENCE_SECONDS)
    kill(found)
    wait_until(lambda: set(running.stores()) - set(found), f"no store took the place of {found}", PATIENCE_SECONDS)


def wait_until_consumed(running: Service, flow: Flow) -> None:
    """Wait until the store consumes, so that what is sent now is under way when it is killed."""
    wait_until(lambda: stored(running) >= flow.total // 2, "the events do not come", PATIENCE_SECONDS)


def offsets_of(manifest: dict[str, Any]) -> int:
    return sum(following for partitions in manifest["kafka"].values() for following in partitions.values())


def check_archive(running: Service) -> None:
    """Whatever flows in: an archive has as many events as its offsets say, since each message is one."""
    running.wait_until_ready()  # the store that takes over may need longer than a request waits for it
    made = running.post("/api/backup/create")
    assert made.status == 200, made.body
    name = made.json()["name"]
    manifest = running.get(f"/api/backup/{name}").json()["manifest"]
    assert manifest["events"] == offsets_of(manifest)


@pytest.mark.parametrize(
    ("kills", "each"),
    [pytest.param(4, 1_500, id="4"), pytest.param(100, 10_000, id="100", marks=pytest.mark.soak)],
)
def test_each_event_of_three_topics_is_there_once_whoever_is_killed(
    request: pytest.FixtureRequest, service: Callable[..., Service], kills: int, each: int
) -> None:
    chance = random.Random(series_seed())
    is_long = kills > 10
    with broker_of(request, killed=is_long) as (kafka, broker):
        topics = [kafka.topic(PARTITIONS) for _ in range(3)]
        running = service(
            workers=1,
            environment={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": ",".join(topics)},
        )
        flow = Flow(kafka.bootstrap, topics)
        for _ in range(kills):
            if chance.random() >= DURING_START:
                wait_until_consumed(running, flow)
            flow.send(each)
            time.sleep(chance.uniform(0, 0.4 if is_long else 0.1))
            if broker is not None and chance.random() < 0.3:
                restart(broker)
            else:
                kill_store(running)
        check_archive(running)
        flow.flush()
        wait_until(lambda: stored(running) == flow.total, "the events do not come", 10 * PATIENCE_SECONDS)
        check_archive(running)
        wait_until(lambda: running.get("/api/health").json()["problems"] == [], "problems stay", PATIENCE_SECONDS)
        running.stop()
        assert numbers_by_place(running) == {place: list(range(count)) for place, count in flow.sent.items()}


@pytest.mark.soak
def test_each_event_is_there_once_over_a_login_whose_password_changes(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    """The brokers know a new password before the file has it, or after. A new client logs in after each kill."""
    chance = random.Random(series_seed())
    with secured_broker(tmp_path) as (broker, secured):
        user = secured.user()
        login = secured.environment(user)
        topics = [secured.kafka.topic(PARTITIONS) for _ in range(3)]
        running = service(workers=1, environment={**login, "KAFKA_EVENTS_TOPIC": ",".join(topics)})
        flow = Flow(broker.bootstrap, topics)
        for number in range(40):
            wait_until_consumed(running, flow)
            flow.send(3_000)
            kill = chance.choice([lambda: kill_store(running), lambda: restart(broker)])
            for step in chance.sample([kill, *changes_to(f"geheim-{number}", user, login, secured)], 3):
                step()
        flow.flush()
        wait_until(lambda: stored(running) == flow.total, "the events do not come", 10 * PATIENCE_SECONDS)
        wait_until(lambda: running.get("/api/health").json()["problems"] == [], "problems stay", PATIENCE_SECONDS)
        assert "geheim" not in running.log()
        running.stop()
        assert numbers_by_place(running) == {place: list(range(count)) for place, count in flow.sent.items()}


def changes_to(password: str, user: User, login: dict[str, str], secured: SecuredKafka) -> list[Callable[[], object]]:
    file = Path(login["KAFKA_SASL_PASSWORD_FILE"])
    return [lambda: secured.set_password(user, password), lambda: file.write_text(password)]


@contextmanager
def secured_broker(folder: Path) -> Iterator[tuple[KafkaBroker, SecuredKafka]]:
    broker = KafkaBroker(folder / "kafka", os.getpid(), secured=True)
    or_skip(broker.start)
    try:
        kafka, own = Kafka(broker.bootstrap), folder / "secrets"
        own.mkdir()
        yield broker, SecuredKafka(kafka, f"127.0.0.1:{broker.secured_port}", broker.folder, own)
    finally:
        broker.stop()


def restart(broker: KafkaBroker) -> None:
    broker.stop(signal.SIGKILL)
    broker.start()


def stored(running: Service) -> int:
    answer = running.get("/api/health").json()
    return int((answer["store"] or {}).get("events") or 0)


def open_unlocked(folder: Path) -> Any:
    """Open the database once nobody has it: a process that ends drops its lock a moment after its environment."""
    opened: list[Any] = []

    def can_open() -> bool:
        with suppress(plyvel.IOError):
            opened.append(open_leveldb(folder))
        return bool(opened)

    wait_until(can_open, f"{folder} stays locked")
    return opened[0]


def numbers_by_place(running: Service) -> dict[Place, list[int]]:
    """The numbers of each partition's events, in the order of the registry."""
    folder = running.folder("STORAGE_DIR") / "event_registry_db"
    found: dict[Place, list[int]] = defaultdict(list)
    db = open_unlocked(folder)
    try:
        registry = EventRegistry(db, folder)
        for _, value in registry.events(0, registry.last_sequence):
            event = orjson.loads(value)
            topic, partition, _ = event["id"].split("/", 2)
            found[topic, int(partition)].append(event["data"])
    finally:
        db.close()
    return dict(found)

"""The publisher with a real broker: each posted event is in the topic, in order per subject, whatever happens."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message

from eventvault import clock
from eventvault.database.bus import EventBus
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch, create_database
from eventvault.events import event
from eventvault.kafka import clients
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.publisher import Publisher
from eventvault.settings import Settings
from tests.eventvault.kafka.test_connection import end_client
from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until

pytestmark = pytest.mark.kafka

NONCES = Nonces()


class Publishing:
    """A database whose outbox is published to `topic`."""

    def __init__(self, settings: Settings, database: Path) -> None:
        self.bus = EventBus(database, publishes=True)
        self.monitor = PublishMonitor(settings.kafka_publish_topic, self.bus.backlog)
        self.publisher = Publisher(settings, self.bus, NONCES, self.monitor)
        self.bus.init([self.publisher])

    def post(self, *names: str, data: str = "x", from_kafka: bool = False) -> None:
        drafts = [
            event.draft({"type": "t", "id": name, "subject": name[0], "data": data}, clock.now()) for name in names
        ]
        self.bus.committer.append(AppendBatch(drafts, NONCES.next(), from_kafka=from_kafka))

    def wait_until_published(self) -> None:
        wait_until(lambda: self.bus.backlog() == 0, "what was posted is not published", 60)


def last_error(publishing: Publishing) -> Any:
    return publishing.monitor.snapshot()["publish"]["lastError"]


Publish = Callable[..., Publishing]


@pytest.fixture
def publish(kafka: Kafka, settings_with: Callable[..., Settings], tmp_path: Path) -> Iterator[Publish]:
    """publish(topic) opens a database and publishes from it; all are closed at the end."""
    with ExitStack() as opened:

        def begin(topic: str, *, bootstrap: str | None = None, create_topics: bool = False) -> Publishing:
            settings = settings_with({
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap or kafka.bootstrap,
                "KAFKA_PUBLISH_TOPIC": topic,
                "KAFKA_CREATE_TOPICS": str(create_topics),
            })  # fmt: skip
            database = tmp_path / "event_registry_db"
            if not database.exists():
                create_database(database)
            publishing = Publishing(settings, database)
            opened.callback(publishing.bus.close)
            return publishing

        yield begin


def ids(messages: Sequence[Message]) -> list[str]:
    return [dict(message.headers() or [])["ce_id"].decode() for message in messages]


def test_each_posted_event_is_in_the_topic_in_order_per_subject(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.topic(partitions=3)
    publishing = publish(topic)
    names = [f"{'abc'[number % 3]}{number}" for number in range(3000)]
    for first in range(0, len(names), 100):
        publishing.post(*names[first : first + 100])
        publishing.post(f"k{first}", from_kafka=True)
    publishing.wait_until_published()

    found = kafka.read(topic, len(names), partitions=3)
    assert {message.key() for message in found} == {b"a", b"b", b"c"}
    for subject in "abc":
        of_subject = [message for message in found if message.key() == subject.encode()]
        assert ids(of_subject) == [name for name in names if name[0] == subject]
        assert len({message.partition() for message in of_subject}) == 1
    headers = dict(found[0].headers() or [])
    assert (headers["ce_specversion"], headers["content-type"]) == (b"1.0", b"application/json")
    assert found[0].value() == b'"x"'
    assert kafka.total(topic) == len(names)


def test_a_restart_publishes_nothing_again_that_was_removed(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.topic()
    first = publish(topic)
    first.post("a1", "a2")
    first.wait_until_published()
    first.bus.close()
    second = publish(topic)
    second.post("a3")
    second.wait_until_published()
    assert ids(kafka.read(topic, 3)) == ["a1", "a2", "a3"]
    assert kafka.total(topic) == 3


def become_outdated(client: WatchedProducer) -> None:
    client.is_outdated = True


@pytest.mark.parametrize("end", [become_outdated, end_client], ids=["by its certificate", "by an error"])
def test_a_client_that_is_outdated_is_replaced(
    kafka: Kafka, publish: Publish, monkeypatch: pytest.MonkeyPatch, end: Callable[[WatchedProducer], None]
) -> None:
    made = list[WatchedProducer]()

    def recorded(*arguments: Any, **options: Any) -> WatchedProducer:
        made.append(clients.producer(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("eventvault.kafka.publish.publisher.clients", SimpleNamespace(producer=recorded))
    topic = kafka.topic()
    publishing = publish(topic)
    publishing.post("a1")
    publishing.wait_until_published()
    end(made[0])
    wait_until(lambda: len(made) == 2, "the client is not replaced")
    publishing.post("a2")
    publishing.wait_until_published()
    assert ids(kafka.read(topic, 2)) == ["a1", "a2"]


def test_a_topic_that_is_missing_is_named_and_found_once_it_is_there(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.name("published")
    publishing = publish(topic)
    publishing.post("a1")
    wait_until(
        lambda: [each.code for each in publishing.monitor.problems()] == ["kafka_publish_topic_missing"],
        "the missing topic is not named", 60,
    )  # fmt: skip
    kafka.topic(name=topic)
    publishing.wait_until_published()
    assert ids(kafka.read(topic, 1)) == ["a1"]
    wait_until(lambda: publishing.monitor.problems() == [], "the topic is still called missing", 60)


def test_the_topic_is_made_if_that_is_allowed(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.name("published")
    publishing = publish(topic, create_topics=True)
    publishing.post("a1", data="x" * 2_000_000)
    publishing.wait_until_published()
    assert kafka.read(topic, 1)[0].value() == b'"%s"' % (b"x" * 2_000_000)


def test_an_event_that_is_larger_than_the_topic_takes_stops_nobody(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.topic(max_message_bytes="20000")
    publishing = publish(topic)
    noise = secrets.token_hex(40_000)  # no compression makes it fit
    publishing.post("a1")
    publishing.post("a2", data=noise)
    publishing.post(*(f"a{number}" for number in range(3, 500)))
    publishing.wait_until_published()

    found = kafka.read(topic, 499)
    assert ids(found) == [f"a{number}" for number in range(1, 500)]
    assert (found[1].value() or b"") == b""
    assert dict(found[1].headers() or [])["ce_dataref"] == b"/api/events?id=a2&source=eventvault"
    assert [each.code for each in publishing.monitor.problems()] == ["kafka_event_too_large"]


def test_a_limit_that_is_lowered_meanwhile_stops_nobody(kafka: Kafka, publish: Publish) -> None:
    topic = kafka.topic()
    publishing = publish(topic)
    publishing.post("a1")
    publishing.wait_until_published()
    kafka.change_config(topic, max_message_bytes="2000")
    publishing.post(*(f"a{number}" for number in range(2, 300)))
    publishing.wait_until_published()
    assert sorted(set(ids(kafka.read(topic, kafka.total(topic)))), key=lambda name: int(name[1:])) == [
        f"a{number}" for number in range(1, 300)
    ]


def test_without_a_broker_the_backlog_waits_and_goes_once_there_is_one(
    publish: Publish, private_kafka: KafkaBroker
) -> None:
    broker = private_kafka
    broker.start()
    topic = Kafka(broker.bootstrap).topic()
    publishing = publish(topic, bootstrap=broker.bootstrap)
    publishing.post("a1")
    publishing.wait_until_published()
    broker.stop()
    publishing.post("a2", "a3")
    assert publishing.bus.backlog() == 2
    wait_until(lambda: last_error(publishing) is not None, "it is not said why nothing is published")
    assert broker.bootstrap in last_error(publishing)["message"]
    broker.start()
    publishing.wait_until_published()
    assert ids(Kafka(broker.bootstrap).read(topic, 3)) == ["a1", "a2", "a3"]

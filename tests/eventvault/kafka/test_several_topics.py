"""Several topics on a real broker: each event once, and a topic that fails keeps no other one from going on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from eventvault.kafka import followed_topics
from tests.kafka_broker import Kafka
from tests.processes import wait_until

pytestmark = pytest.mark.kafka

Consume = Callable[..., Any]
PATIENCE_SECONDS = 60


def until(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, what, PATIENCE_SECONDS)


def events(topic: str, first: int, last: int) -> list[str]:
    return [json.dumps({"id": f"{topic}/{number}", "type": f"t{number}"}) for number in range(first, last + 1)]


def numbers(one: Any, topic: str) -> list[int]:
    """The events of a topic, in the order in which they came."""
    return [
        int(identity.rpartition("/")[2])
        for _, identity in list(one.registry.drafts)
        if identity.startswith(f"{topic}/")
    ]


def nexts(one: Any, topic: str) -> dict[int, int]:
    return {number: offset.next for number, offset in one.registry.offsets(topic).items()}


def test_events_of_two_topics_come_once_and_in_order(kafka: Kafka, consume: Consume) -> None:
    few, many = kafka.topic(), kafka.topic(2)
    one = consume(kafka.bootstrap, f"{few},{many}")
    for first in range(1, 31, 10):
        kafka.send(few, events(few, first, first + 9))
        kafka.send(many, events(many, first, first + 9), partition=first // 10 % 2)
    until(lambda: len(one.registry.drafts) == 60, "the events do not come")
    assert numbers(one, few) == list(range(1, 31))
    assert sorted(numbers(one, many)) == list(range(1, 31))
    one.consumer.stop()
    assert (nexts(one, few), nexts(one, many)) == ({0: 30}, {0: 20, 1: 10})
    kafka.send(few, events(few, 31, 31))
    kafka.send(many, events(many, 31, 31))
    one.consumer.start()
    until(lambda: len(one.registry.drafts) == 62, "the events do not go on")
    assert one.registry.appended == 62
    until(lambda: one.monitor.snapshot()["lag"] == 0, "the lag does not end")
    found = one.monitor.snapshot()
    assert (found["topic"], found["topicExists"]) == (None, True)
    assert [(each["topic"], each["partition"]) for each in found["partitions"]] == sorted(
        [(few, 0), (many, 0), (many, 1)]
    )
    until(lambda: one.codes() == [], "health stays degraded")


def test_a_topic_with_a_long_queue_does_not_hold_up_another(kafka: Kafka, consume: Consume) -> None:
    busy, quiet = kafka.topic(), kafka.topic()
    text = "x" * 1_000
    count = 25_000
    kafka.send(busy, [f'{{"id": "{busy}/{n}", "type": "t", "data": "{text}"}}' for n in range(count)])
    kafka.send(quiet, events(quiet, 1, 5))
    one = consume(kafka.bootstrap, f"{busy},{quiet}")
    until(lambda: nexts(one, quiet) == {0: 5} and nexts(one, busy) == {0: count}, "the topics do not end")
    order = [identity for _, identity in list(one.registry.drafts)]
    assert order.index(f"{quiet}/5") < count, "the quiet topic came after all of the busy one"


def test_a_pattern_finds_topics_while_it_runs_and_never_those_with_another_use(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = kafka.name("shop")
    first, later, other = f"{prefix}.a_1", f"{prefix}-b", f"work{prefix}"
    monkeypatch.setattr(followed_topics, "NAMES_SECONDS", 1.0)
    one = consume(kafka.bootstrap, f"^{prefix}")
    until(lambda: one.monitor.snapshot()["connected"], "no connection")
    assert one.monitor.snapshot()["topics"] == []
    kafka.topic(name=first)
    kafka.topic(name=other)
    kafka.send(other, events(other, 1, 1))
    kafka.send(first, [*events(first, 1, 1), b"no event", *events(first, 2, 2)])
    until(lambda: numbers(one, first) == [1, 2], "the first topic is not found")
    until(lambda: one.monitor.snapshot()["topic"] == first, "one topic is not shown as one")
    assert len(kafka.read(f"{first}.dead-letter", 1)) == 1
    kafka.topic(2, name=later)
    kafka.send(later, events(later, 1, 1), partition=1)
    until(lambda: numbers(one, later) == [1], "the new topic is not found")
    kafka.add_partitions(first, 2)
    kafka.send(first, events(first, 3, 3), partition=1)
    until(lambda: numbers(one, first) == [1, 2, 3], "the new partition is not found")
    assert set(one.topics()) == {first, later}
    assert one.registry.appended == 4
    assert numbers(one, other) == []


def test_a_topic_that_is_deleted_and_recreated_stops_alone(kafka: Kafka, consume: Consume) -> None:
    gone, stays = kafka.topic(), kafka.topic()
    kafka.send(gone, events(gone, 1, 3))
    kafka.send(stays, events(stays, 1, 3))
    one = consume(kafka.bootstrap, f"{gone},{stays}")
    until(lambda: len(one.registry.drafts) == 6, "the events do not come")
    kafka.delete(gone)
    kafka.send(stays, events(stays, 4, 5))
    until(lambda: one.codes() == ["kafka_topic_missing"], "health does not name the topic that is gone")
    assert (one.topics()[gone]["exists"], one.topics()[stays]["exists"]) == (False, True)
    until(lambda: numbers(one, stays) == [1, 2, 3, 4, 5], "the other topic does not go on")
    kafka.topic(name=gone)
    kafka.send(gone, events(gone, 4, 9))
    kafka.send(stays, events(stays, 6, 7))
    until(lambda: one.codes() == ["kafka_topic_recreated"], "the recreated topic is not noticed")
    until(lambda: len(numbers(one, stays)) == 7, "the other topic does not go on beside a stopped one")
    assert one.monitor.snapshot()["stoppedPartitions"] == [f"{gone}/0"]
    assert numbers(one, gone) == [1, 2, 3]
    one.accept_loss(stays, 0)
    one.accept_loss(gone, 0)
    until(lambda: len(numbers(one, gone)) == 9, "what the new topic has does not come")
    until(lambda: one.codes() == [], "health stays degraded")
    assert one.registry.appended == 16
    assert nexts(one, stays) == {0: 7}


def stopped_before_gaps(kafka: Kafka, consume: Consume, *topics: str) -> Any:
    """Consume two events of each topic, stop, and let Kafka lose the two that follow before two more."""
    for topic in topics:
        kafka.send(topic, events(topic, 1, 2))
    one = consume(kafka.bootstrap, ",".join(topics))
    until(lambda: len(one.registry.drafts) == 2 * len(topics), "the events do not come")
    one.consumer.stop()
    for topic in topics:
        kafka.send(topic, events(topic, 3, 6))
        kafka.remove_before(topic, 4)
    return one


def test_a_loss_is_accepted_for_one_topic_alone(kafka: Kafka, consume: Consume) -> None:
    one_topic, other = kafka.topic(), kafka.topic()
    one = stopped_before_gaps(kafka, consume, one_topic, other)
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_messages_gone"] * 2, "the gaps are not noticed")
    one.accept_loss(one_topic, 0)
    until(lambda: numbers(one, one_topic) == [1, 2, 5, 6], "what is left does not come")
    until(lambda: one.codes() == ["kafka_messages_gone"], "health does not name the other topic alone")
    assert one.monitor.stopped_problems()[0].about == f"{other}/0"
    assert nexts(one, other) == {0: 2}


@contextmanager
def only(kafka: Kafka, topic: str, operation: AclOperation, permission: AclPermissionType) -> Iterator[None]:
    """Let clients do nothing with the topic but this, or not this: with a rule, all else is refused."""
    rule = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
    try:
        binding = AclBinding(*rule, "User:ANONYMOUS", "*", operation, permission)
        kafka.admin.create_acls([binding])[binding].result(30)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.SECURITY_DISABLED:
            pytest.skip("the broker that is given has no authorizer")
        raise
    try:
        yield
    finally:
        every = AclBindingFilter(*rule, None, None, AclOperation.ANY, AclPermissionType.ANY)
        kafka.admin.delete_acls([every])[every].result(30)


@pytest.mark.parametrize(
    ("operation", "permission"),
    [(AclOperation.DESCRIBE, AclPermissionType.ALLOW), (AclOperation.DESCRIBE, AclPermissionType.DENY)],
    ids=["no right to read", "no right to describe"],
)
def test_a_topic_that_may_not_be_read_is_named_and_the_other_one_goes_on(
    kafka: Kafka, consume: Consume, operation: AclOperation, permission: AclPermissionType
) -> None:
    closed, open_topic = kafka.topic(), kafka.topic()
    for topic in (closed, open_topic):
        kafka.send(topic, events(topic, 1, 2))
    with only(kafka, closed, operation, permission):
        one = consume(kafka.bootstrap, f"{closed},{open_topic}")
        until(lambda: one.codes() == ["kafka_topic_refused"], "health does not name the topic")
        until(lambda: numbers(one, open_topic) == [1, 2], "the other topic does not come")
        kafka.send(open_topic, events(open_topic, 3, 3))
        until(lambda: numbers(one, open_topic) == [1, 2, 3], "the other topic does not go on")
        (problem,) = one.monitor.problems()
        assert (problem.about, problem.degrades) == (closed, True)
        assert "allow this client to Read and to Describe" in problem.hint
        assert "authorization" in one.topics()[closed]["error"].lower()
        assert numbers(one, closed) == []
    until(lambda: numbers(one, closed) == [1, 2], "the topic does not come once it may be read")
    until(lambda: one.codes() == [], "health stays degraded")
    assert one.registry.appended == 5


def test_a_topic_waits_for_its_own_dead_letter_topic(kafka: Kafka, consume: Consume) -> None:
    small, other = kafka.topic(), kafka.topic()
    kafka.topic(name=f"{small}.dead-letter", max_message_bytes="100")
    for topic in (small, other):
        kafka.send(topic, [*events(topic, 1, 1), b"x" * 500, *events(topic, 2, 2)])
    one = consume(kafka.bootstrap, f"{small},{other}")
    until(lambda: numbers(one, other) == [1, 2], "the other topic does not go on")
    until(lambda: one.codes() == ["kafka_waits"], "health does not say so")
    assert one.monitor.problems()[0].about == small
    assert [letter.value() for letter in kafka.read(f"{other}.dead-letter", 1)] == [b"x" * 500]
    assert (numbers(one, small), nexts(one, small)) == ([1], {0: 1})
    kafka.change_config(f"{small}.dead-letter", max_message_bytes="10000")
    until(lambda: numbers(one, small) == [1, 2], "the topic does not go on")
    until(lambda: not one.codes(), "health stays degraded")


def test_a_topic_without_dead_letters_is_named_alone(kafka: Kafka, consume: Consume) -> None:
    without, other = kafka.topic(), kafka.topic()
    kafka.topic(name=f"{other}.dead-letter")
    for topic in (without, other):
        kafka.send(topic, [b"no event", *events(topic, 1, 1)])
    one = consume(kafka.bootstrap, f"{without},{other}", create_topics=False)
    until(lambda: len(one.registry.drafts) == 2, "the events do not come")
    (problem,) = one.monitor.problems()
    assert (problem.code, problem.about) == ("kafka_dead_letters_missing", f"{without}.dead-letter")


def test_an_accepted_loss_is_not_one_of_another_reason(kafka: Kafka, consume: Consume) -> None:
    topic, other = kafka.topic(), kafka.topic()
    one = stopped_before_gaps(kafka, consume, topic, other)
    one.consumer.accept_loss(topic, 0, f"another reason, such as that {topic} was recreated")
    one.consumer.start()
    until(lambda: one.codes() == ["kafka_messages_gone"] * 2, "the gaps are not noticed")
    one.accept_loss(other, 0)
    until(lambda: numbers(one, other) == [1, 2, 5, 6], "what is accepted behind it does not go on")
    until(lambda: one.codes() == ["kafka_messages_gone"], "health does not name the topic whose loss is not accepted")
    assert nexts(one, topic) == {0: 2}


def test_a_topic_that_grows_beyond_the_bound_is_named_and_goes_on_as_it_was(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_topics, "MAX_PARTITIONS", 3)
    grows, other = sorted([kafka.topic(), kafka.topic()])
    one = consume(kafka.bootstrap, f"{grows},{other}")
    kafka.send(grows, events(grows, 1, 1))
    until(lambda: numbers(one, grows) == [1], "the event does not come")
    kafka.add_partitions(grows, 3)
    until(lambda: one.codes() == ["kafka_topic_refused"], "health does not say that not all of it is read")
    assert one.monitor.problems()[0].about == grows
    for partition in range(3):
        kafka.send(grows, events(grows, 2 + partition, 2 + partition), partition=partition)
    kafka.send(other, events(other, 1, 1))
    until(lambda: numbers(one, grows) == [1, 2] and numbers(one, other) == [1], "what was read before does not go on")
    one.consumer.stop()
    kafka.send(grows, events(grows, 5, 5))
    one.consumer.start()
    until(lambda: numbers(one, grows) == [1, 2, 5], "a restart reads nothing of it any more")
    assert nexts(one, grows) == {0: 3}
    monkeypatch.setattr(followed_topics, "MAX_PARTITIONS", 4)
    until(lambda: sorted(numbers(one, grows)) == [1, 2, 3, 4, 5], "the new partitions are not read once there is room")
    until(lambda: one.codes() == [], "health stays degraded")


def test_a_pattern_asks_for_all_names_more_seldom_than_for_its_topics(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    names = followed_topics.topics.names

    def count(admin: Any) -> list[str]:
        asked.append(time.monotonic())
        return names(admin)

    monkeypatch.setattr(followed_topics.topics, "names", count)
    monkeypatch.setattr(followed_topics, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(followed_topics, "NAMES_SECONDS", 600.0)
    prefix = kafka.name("seldom")
    kafka.topic(name=f"{prefix}-a")
    one = consume(kafka.bootstrap, f"^{prefix}")
    kafka.send(f"{prefix}-a", events("a", 1, 1))
    until(lambda: numbers(one, "a") == [1], "the event does not come")
    kafka.topic(name=f"{prefix}-b")
    kafka.add_partitions(f"{prefix}-a", 2)
    kafka.send(f"{prefix}-a", events("a", 2, 2), partition=1)
    until(lambda: numbers(one, "a") == [1, 2], "the new partition is not found")
    assert (len(asked), set(one.topics())) == (1, {f"{prefix}-a"})


def test_topics_with_too_many_partitions_are_named_and_the_others_go_on(
    kafka: Kafka, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_topics, "MAX_PARTITIONS", 3)
    small, large = kafka.topic(2), kafka.topic(2)
    for topic in (small, large):
        kafka.send(topic, events(topic, 1, 1))
    one = consume(kafka.bootstrap, f"{small},{large}")
    until(lambda: numbers(one, small) == [1], "the topic that has room does not come")
    until(lambda: one.codes() == ["kafka_topic_refused"], "health does not name the topic without room")
    assert one.monitor.problems()[0].about == large
    assert numbers(one, large) == []

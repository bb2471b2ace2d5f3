"""The positions of a topic's partitions, where the brokers do not answer about one of them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from eventvault.errors import KafkaUnreachable
from eventvault.kafka.followed_topics import refused
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.positions import Positions
from eventvault.kafka.topic_info import TopicInfo

INFO = TopicInfo("cluster", "id", 4)


class Brokers:
    """What `Positions` asks of an admin and of a consumer. away: partitions without a leader."""

    def __init__(self, *away: int) -> None:
        self.away = set(away)
        self.assigned: dict[int, int] = {}

    def list_offsets(self, wanted: dict[TopicPartition, OffsetSpec], **_: Any) -> dict[TopicPartition, Future[Any]]:
        return {place: self._offset(place, spec) for place, spec in wanted.items()}

    def _offset(self, place: TopicPartition, spec: OffsetSpec) -> Future[Any]:
        answer: Future[Any] = Future()
        if place.partition in self.away:
            answer.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        else:
            answer.set_result(SimpleNamespace(offset=0 if spec is OffsetSpec.earliest() else 10))
        return answer

    def refusal(self) -> None:
        return None

    def newest_error(self) -> str:
        return ""

    def note_answer(self) -> None: ...

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned.update({place.partition: place.offset for place in places})

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        for place in places:
            del self.assigned[place.partition]


def positions_of(brokers: Any) -> Positions:
    offsets = {number: StoredOffset(next=7, crc=1, topic_id="id") for number in range(4)}
    return Positions(brokers, brokers, "events", INFO, offsets)


def test_a_partition_without_a_leader_keeps_no_other_one_from_beginning() -> None:
    brokers = Brokers(0, 2)
    positions = positions_of(brokers)
    for _ in range(3):
        with pytest.raises(KafkaUnreachable):
            positions.add_partitions(INFO)
    assert brokers.assigned.keys() == {1, 3}
    brokers.away.clear()
    positions.add_partitions(INFO)
    assert brokers.assigned == dict.fromkeys(range(4), 6)


def test_a_partition_that_waits_goes_on_from_the_message_to_compare_until_it_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("eventvault.kafka.positions.time.monotonic", lambda: clock[0])
    brokers = Brokers()
    positions = positions_of(brokers)
    positions.add_partitions(INFO)
    problem = refused("events", KafkaError.TOPIC_AUTHORIZATION_FAILED, "no right")
    waits = []
    for _ in range(7):
        positions.wait(1, problem)
        assert 1 not in brokers.assigned
        began = clock[0]
        while 1 not in brokers.assigned:
            clock[0] += 0.5
            positions.resume_due()
        waits.append(clock[0] - began)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert brokers.assigned[1] == 6
    assert positions.waiting() == [problem]
    assert positions.settle(1)
    assert not positions.settle(1)
    assert positions.waiting() == []


def test_a_partition_that_was_never_read_waits_from_its_beginning() -> None:
    brokers = Brokers()
    topic_info = TopicInfo("cluster", "id", 1)
    positions = Positions(brokers, brokers, "events", topic_info, {})  # type: ignore[arg-type]
    positions.add_partitions(positions.topic_info)
    assert brokers.assigned == {0: OFFSET_BEGINNING}

"""What a process of the service does as it begins, beside reading its settings."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import orjson
import pytest
from confluent_kafka import Message

from eventvault.kafka.batch import PartitionBatch
from eventvault.kafka.consuming import BATCH_MESSAGES
from eventvault.kafka.records import Records
from eventvault.store.process.beginning import COLLECT_AFTER, collect_seldom


class Node:
    """Refers to itself, so that only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def loaded() -> Iterator[Node]:
    """An object from before, of a process in which garbage is collected seldom from then on."""
    before, node = gc.get_threshold(), Node()
    collect_seldom()
    yield node
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_was_loaded_is_gone_through_no_more(loaded: Node) -> None:
    made = Node()
    passed = [each for each in gc.get_objects() if isinstance(each, Node)]

    assert passed == [made]


def test_cycles_are_collected_before_they_are_many(loaded: Node) -> None:
    living, most = weakref.WeakSet[Node](), 0
    for _ in range(5 * COLLECT_AFTER):
        living.add(Node())
        most = max(most, len(living))

    assert most <= COLLECT_AFTER


@pytest.mark.slow
def test_a_batch_from_kafka_is_read_without_a_collection(loaded: Node) -> None:
    values = [
        orjson.dumps({"type": "t", "id": f"{number}", "data": {"items": [{}]}}) for number in range(2 * BATCH_MESSAGES)
    ]
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    for start in range(0, len(values), BATCH_MESSAGES):
        messages = [
            Message("topic", 0, offset, None, value, [("content-type", b"application/json")])
            for offset, value in enumerate(values[start : start + BATCH_MESSAGES])
        ]
        batch = PartitionBatch(Records(messages))
        assert len(batch.events) == BATCH_MESSAGES
        del batch, messages

    assert gc.get_stats()[0]["collections"] == before

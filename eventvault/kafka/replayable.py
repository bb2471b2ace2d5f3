"""How far the events of an archive go in Kafka, and whether the brokers still hold all that came after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

_MOST_PARTITIONS = 5_000
"""An archive from elsewhere may name any number of partitions. If it names more, the catalogue notes none."""


class ArchivedOffsets(msgspec.Struct, frozen=True):
    """next: topic → partition → the offset after the last message. topics: the ids of the topics, as far as known."""

    next: dict[str, dict[str, int]]
    topics: dict[str, str] = {}

    @classmethod
    def of(cls, kafka: Mapping[str, Any], topics: Mapping[str, Any]) -> ArchivedOffsets | None:
        """Return the offsets in a manifest; None if EventVault never writes such ones."""
        try:
            offsets = msgspec.convert({"next": kafka, "topics": topics}, cls)
        except msgspec.ValidationError:
            return None
        numbers = [number for of_topic in offsets.next.values() for number in of_topic]
        return offsets if len(numbers) <= _MOST_PARTITIONS and all(map(str.isdigit, numbers)) else None

    def as_offsets(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the offsets in the form that a segment of the journal has, as far as they are known."""
        return {
            topic: {
                number: {"next": following, "topicId": self.topics.get(topic)} for number, following in of_topic.items()
            }
            for topic, of_topic in self.next.items()
        }

    @classmethod
    def of_registry(cls, offsets: Mapping[str, Mapping[str, Any]]) -> ArchivedOffsets:
        """Return the offsets of a registry, from the form that a segment of the journal has."""
        return cls(
            {
                topic: {number: stored["next"] for number, stored in of_topic.items()}
                for topic, of_topic in offsets.items()
            },
            {
                topic: stored["topicId"]
                for topic, of_topic in offsets.items()
                for stored in of_topic.values()
                if stored.get("topicId")
            },
        )


class TopicBounds(NamedTuple):
    """A topic as the brokers have it now. partitions: number → its first offset and its end."""

    topic_id: str | None
    partitions: Mapping[int, tuple[int, int]]


Bounds = Mapping[str, TopicBounds | None]
"""What the brokers hold, by topic; None for a topic that does not exist. A topic that was not asked for is missing."""


def holds_all_after(archived: ArchivedOffsets | None, bounds: Bounds | None, topics: Sequence[str]) -> bool | None:
    """Return whether the brokers hold every message after the archive's offsets; None if that is not known.

    topics: those that events are consumed from now. bounds: None if no broker has answered lately.
    """
    if archived is None or bounds is None:
        return None
    answers = [_holds(archived, topic, bounds.get(topic)) for topic in topics if topic in bounds]
    if False in answers:
        return False
    return None if not answers or None in answers or len(answers) < len(topics) else True


def messages_after(archived: ArchivedOffsets | None, bounds: Bounds | None, topics: Sequence[str]) -> int | None:
    """Return how many offsets lie between the archive's offsets and the ends of the topics; None if that is not known.

    Transaction markers, and messages that compaction removed, are counted too.
    """
    if archived is None or bounds is None or not topics:
        return None
    all_bounds = [bounds.get(topic) for topic in topics]
    if None in all_bounds:
        return None
    return sum(
        max(0, end - max(begin, archived.next.get(topic, {}).get(str(number), begin)))
        for topic, of_topic in zip(topics, all_bounds, strict=True)
        if of_topic is not None
        for number, (begin, end) in of_topic.partitions.items()
    )


def _holds(archived: ArchivedOffsets, topic: str, bounds: TopicBounds | None) -> bool | None:
    offsets = archived.next.get(topic, {})
    if bounds is None:
        return False
    topic_id = archived.topics.get(topic)
    if topic_id is not None and bounds.topic_id is not None and topic_id != bounds.topic_id:
        return False
    for number, following in offsets.items():
        begin, end = bounds.partitions.get(int(number), (0, -1))
        if not begin <= following <= end:
            return False
    if any(begin > 0 for number, (begin, _) in bounds.partitions.items() if str(number) not in offsets):
        return None  # the messages that are missing may have come before the archive or after it
    return None if offsets and topic_id is None and bounds.topic_id is not None else True

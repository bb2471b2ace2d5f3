"""Sorts the messages of a partition into events to store and dead letters with their reasons. Does no I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventvault.events.event import EventDraft
from eventvault.kafka.messages import Record, Unreadable, to_draft, to_drafts
from eventvault.kafka.offsets import StoredOffset, checksum
from eventvault.kafka.topic_info import TopicInfo

log = logging.getLogger("KafkaMonitor")


class PartitionBatch:
    """The messages of one partition in one batch, in order.

    drafts: (offset, event) pairs. letters: (message, reason) pairs of those that are no event. last: the last message.
    """

    def __init__(self, messages: Sequence[Record]) -> None:
        self.topic, self.partition = messages[0].topic, messages[0].partition
        self.drafts: list[tuple[int, EventDraft]] = []
        self.letters: list[tuple[Record, str]] = []
        self._messages = list(messages)
        for message, draft in zip(messages, _ordinary_drafts(messages), strict=True):
            if draft is None:
                self._read(message)
            else:
                self.drafts.append((message.offset, draft))

    def _read(self, message: Record) -> None:
        try:
            self.drafts.append((message.offset, to_draft(message)))
        except Unreadable as reason:
            self.letters.append((message, str(reason)))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - or this message would stop its partition for ever
            self.letters.append((message, f"it cannot be made an event: {type(error).__name__}: {error}"))

    @property
    def last(self) -> Record | None:
        return self._messages[-1] if self._messages else None

    def cut_before(self, offset: int) -> None:
        """Drop the messages from `offset` on."""
        self.drafts = [(number, draft) for number, draft in self.drafts if number < offset]
        self.letters = [(message, reason) for message, reason in self.letters if message.offset < offset]
        self._messages = [message for message in self._messages if message.offset < offset]

    def offset_to_store(self, topic_info: TopicInfo) -> StoredOffset:
        """Return the offset to store with these events."""
        last = self._messages[-1]
        return StoredOffset(
            next=last.offset + 1,
            crc=checksum(last.value),
            leader_epoch=last.leader_epoch,
            topic_id=topic_info.topic_id,
            cluster_id=topic_info.cluster_id,
        )


def _ordinary_drafts(messages: Sequence[Record]) -> Sequence[EventDraft | None]:
    try:
        return to_drafts(messages)
    except MemoryError:
        raise
    except Exception:
        log.exception("messages are read one by one, as they cannot be read together")
        return [None] * len(messages)


def read_batches(partitions: Sequence[Sequence[Record]]) -> list[PartitionBatch]:
    """Return a batch for each partition's messages; none of these may be empty."""
    return [PartitionBatch(messages) for messages in partitions]

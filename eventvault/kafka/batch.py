"""Sorts the messages of a partition into events to store and dead letters with their reasons. Does no I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventvault.events.event import EventDraft
from eventvault.kafka import offsets
from eventvault.kafka.messages import Columns, KafkaRecord, Unreadable, to_draft, to_drafts
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo

log = logging.getLogger("KafkaMonitor")


class PartitionBatch:
    """The messages of one partition in one batch, in order.

    letters: (message, reason) pairs of the messages that are not events. last: the last message.
    """

    def __init__(self, messages: Sequence[KafkaRecord]) -> None:
        self.last: KafkaRecord | None = messages[-1]
        self.topic, self.partition = self.last.topic, self.last.partition
        self.letters: list[tuple[KafkaRecord, str]] = []
        self._messages = messages
        self._drafts = [draft or self._read(messages[index]) for index, draft in enumerate(_ordinary_drafts(messages))]

    def _read(self, message: KafkaRecord) -> EventDraft | None:
        try:
            return to_draft(message, strict=True)
        except Unreadable as reason:
            self.letters.append((message, str(reason)))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - otherwise this message would stop its partition for ever
            self.letters.append((message, f"it cannot be made an event: {type(error).__name__}: {error}"))
        return None

    @property
    def events(self) -> list[EventDraft]:
        return [draft for draft in self._drafts if draft is not None]

    @property
    def drafts(self) -> list[tuple[int, EventDraft]]:
        """The events, each with the offset of its message."""
        pairs = zip(self._offsets(), self._drafts, strict=False)  # fewer drafts where messages were dropped
        return [(offset, draft) for offset, draft in pairs if draft is not None]

    def cut_before(self, offset: int) -> None:
        count = sum(number < offset for number in self._offsets())
        self.last = self._messages[count - 1] if count else None
        self.letters = [(message, reason) for message, reason in self.letters if message.offset < offset]
        del self._drafts[count:]

    def offset_to_store(self, topic_info: TopicInfo) -> StoredOffset:
        """Return the offset to store with these events."""
        last = self.last
        assert last is not None
        return offsets.after(last.offset, last.value, last.leader_epoch, topic_info)

    def _offsets(self) -> list[int]:
        messages = self._messages
        return messages.offsets() if isinstance(messages, Columns) else [message.offset for message in messages]


def _ordinary_drafts(messages: Sequence[KafkaRecord]) -> Sequence[EventDraft | None]:
    try:
        return to_drafts(messages)
    except MemoryError:
        raise
    except Exception:
        log.exception("messages are read one by one, as they cannot be read together")
        return [None] * len(messages)


def read_batches(partitions: Sequence[Sequence[KafkaRecord]]) -> list[PartitionBatch]:
    """Return a batch for each partition's messages; none of these may be empty."""
    return [PartitionBatch(messages) for messages in partitions]

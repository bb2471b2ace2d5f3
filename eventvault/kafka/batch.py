"""What was read of a partition, told apart: events to store, and dead letters with their reasons. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eventvault.events.event import EventDraft
from eventvault.kafka.look import TopicInfo
from eventvault.kafka.messages import Record, Unreadable, to_draft
from eventvault.kafka.offsets import StoredOffset, checksum


class Taken:
    """The messages of one partition in one batch, in order.

    drafts: (offset, event) each. letters: (message, reason) of those that are none. last: the last message of all.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.partition = records[0].partition
        self.drafts: list[tuple[int, EventDraft]] = []
        self.letters: list[tuple[Record, str]] = []
        self._records = list(records)
        for record in records:
            try:
                self.drafts.append((record.offset, to_draft(record)))
            except Unreadable as reason:
                self.letters.append((record, str(reason)))

    @property
    def last(self) -> Record | None:
        return self._records[-1] if self._records else None

    def cut_before(self, offset: int) -> None:
        """Forget what comes at `offset` and after it."""
        self.drafts = [(number, draft) for number, draft in self.drafts if number < offset]
        self.letters = [(record, reason) for record, reason in self.letters if record.offset < offset]
        self._records = [record for record in self._records if record.offset < offset]

    def end(self, look: TopicInfo) -> StoredOffset:
        """The offset to store with these events."""
        last = self._records[-1]
        return StoredOffset(
            next=last.offset + 1,
            crc=checksum(last.value),
            leader_epoch=last.leader_epoch,
            topic_id=look.topic_id,
            cluster_id=look.cluster_id,
        )


def read_batch(partitions: Sequence[Sequence[Record]]) -> list[Taken]:
    """One Taken for each partition's messages; none of these may be empty."""
    return [Taken(records) for records in partitions]

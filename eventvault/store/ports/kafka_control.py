"""The port to the consumer of the events topics, and to the quarantine of their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventvault.kafka.values import Mode, QuarantinedMessage, QuarantineFilter, QuarantinePage, Replayed
from eventvault.rpc.markers import audited, changes


class KafkaControl(Protocol):
    @changes
    @audited("accept-loss")
    def accept_loss(self, partition: int, topic: str | None) -> None:
        """Let a stopped partition soon continue at its first offset. topic: None if there is one topic.

        Raises PartitionNotStopped, or TopicNotNamed.
        """

    def list_quarantine(self, wanted: QuarantineFilter, limit: int, before: str | None = None) -> QuarantinePage:
        """Return the Kafka messages that are not events, newest first. A page may be shorter and still have a `next`.

        before: the `next` of the previous page. Raises InvalidInput for any other text.
        """

    def quarantined_message(self, message_id: str) -> QuarantinedMessage:
        """Return a message with its bytes. Raises QuarantinedNotFound, or InvalidInput if `message_id` is not an id."""

    @changes
    def replay_quarantined(self, ids: Sequence[str], mode: Mode | None = None) -> list[Replayed]:
        """Read messages again, and append the events in them; each leaves the quarantine in the write of its event.

        mode: None: as the headers of each message say. A message stays if it still is not an event, or if a different
        event with its source and id is stored. Raises QuarantinedNotFound if none of the messages is there.
        """

    @changes
    @audited("quarantine-drop")
    def drop_quarantined(self, wanted: QuarantineFilter, count: int | None = None) -> int:
        """Remove messages for good; return how many. Raises QuarantinedNotFound if none matches.

        count: how many the caller saw, up to `wanted.newest`. Raises QuarantineChanged if some have left since.
        """

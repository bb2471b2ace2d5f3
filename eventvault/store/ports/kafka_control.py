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
        """Let a stopped partition soon continue at its present beginning. topic: None if there is one topic.

        Raises PartitionNotStopped, or TopicNotNamed.
        """

    def list_quarantine(self, wanted: QuarantineFilter, limit: int, before: str | None = None) -> QuarantinePage:
        """Messages of Kafka that are no events, the newest first. A page may be shorter and still have a `next`.

        before: the `next` of the page before. Raises InvalidInput for another one.
        """

    def quarantined_message(self, message_id: str) -> QuarantinedMessage:
        """A message with its bytes. Raises QuarantinedNotFound, or InvalidInput if it is no id."""

    @changes
    def replay_quarantined(self, ids: Sequence[str], mode: Mode | None = None) -> list[Replayed]:
        """Read messages again, and append the events in them; each leaves the quarantine in the write of its event.

        mode: None: as the headers of each say. What is no event still stays, and what is another event with the source
        and id of a stored one. Raises QuarantinedNotFound if none of them is there.
        """

    @changes
    @audited("quarantine-drop")
    def drop_quarantined(self, wanted: QuarantineFilter, count: int | None = None) -> int:
        """Remove messages for good; return how many. Raises QuarantinedNotFound if none is meant.

        count: how many somebody saw, with `wanted.newest`; QuarantineChanged is raised if some have left by now.
        """

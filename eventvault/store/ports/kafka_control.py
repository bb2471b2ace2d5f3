"""The port to the consumer of the events topics."""

from __future__ import annotations

from typing import Protocol

from eventvault.rpc.markers import audited, changes


class KafkaControl(Protocol):
    @changes
    @audited("accept-loss")
    def accept_loss(self, partition: int, topic: str | None) -> None:
        """Let a stopped partition soon continue at its present beginning. topic: None if there is one topic.

        Raises PartitionNotStopped, or TopicNotNamed.
        """

"""The port to the consumer of the events topic."""

from __future__ import annotations

from typing import Protocol

from eventvault.rpc.markers import audited, changes


class KafkaControl(Protocol):
    @changes
    @audited("accept-loss")
    def accept_loss(self, partition: int) -> None:
        """Let a stopped partition soon continue at its present beginning. Raises PartitionNotStopped."""

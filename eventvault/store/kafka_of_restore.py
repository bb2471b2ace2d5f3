"""What a restore means for the topics that events are consumed from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventvault.errors import InvalidInput
from eventvault.kafka.broker_bounds import BrokerBounds
from eventvault.kafka.replayable import ArchivedOffsets, holds_all_after, messages_after


def check_replay(*, replay: bool, is_configured: bool) -> None:
    """Raise InvalidInput for a replay without Kafka."""
    if replay and not is_configured:
        raise InvalidInput(
            "nothing can be read again, because Kafka is not configured",
            hint="leave out `replay`, or set KAFKA_BOOTSTRAP_SERVERS",
            fields={"replay": ["Kafka is not configured."]},
        )


def describe_kafka(
    broker_bounds: BrokerBounds, offsets: Callable[[], ArchivedOffsets | None], *, again: bool
) -> dict[str, Any] | None:
    """Return how many messages came after a moment, and whether Kafka still has all of them; None without Kafka.

    offsets: returns where they begin. again: the restore reads them again; only then this waits for the brokers.
    """
    topics = broker_bounds.topics()
    if not topics:
        return None
    begin, present = offsets(), broker_bounds.present() if again else broker_bounds.latest()
    return {
        "again": again,
        "messages": messages_after(begin, present, topics),
        "replayable": holds_all_after(begin, present, topics),
    }

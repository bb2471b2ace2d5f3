"""What every KafkaControl promises."""

from __future__ import annotations

import pytest

from eventvault.errors import PartitionNotStopped
from eventvault.store.ports.store import Store

pytestmark = pytest.mark.slow


def test_there_is_no_loss_to_accept_where_no_partition_is_stopped(store: Store) -> None:
    for topic in (None, "events", "orders.of-2026"):
        with pytest.raises(PartitionNotStopped):
            store.accept_loss(0, topic)

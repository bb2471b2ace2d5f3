"""Both ends of the transport over the shared broker, through topics of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from eventvault.settings import Settings
from tests.eventvault.jobs.transport_ends import KafkaEnds, kafka_ends
from tests.kafka_broker import Kafka


@pytest.fixture
def ends(kafka: Kafka, settings_with: Callable[[dict[str, str]], Settings]) -> Iterator[KafkaEnds]:
    made = kafka_ends(kafka, settings_with)
    yield made
    made.close()

"""A road over the shared broker, through topics of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from eventvault.settings import Settings
from tests.eventvault.jobs.roads import KafkaRoad, kafka_road
from tests.kafka_broker import Kafka


@pytest.fixture
def road(kafka: Kafka, settings_with: Callable[[dict[str, str]], Settings]) -> Iterator[KafkaRoad]:
    made = kafka_road(kafka, settings_with)
    yield made
    made.close()

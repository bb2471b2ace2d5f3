"""A message of the quarantine that is fetched from Kafka, where no client can be made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException

from eventvault import settings
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import fetching
from eventvault.kafka.values import Reference


def test_that_no_client_can_be_made_is_an_error_that_can_be_shown(
    settings_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "the key cannot be read"))

    monkeypatch.setattr(fetching, "MonotonicConsumer", refuse)
    configured = replace(settings.load(settings_environment), kafka_bootstrap_servers="127.0.0.1:1")
    with pytest.raises(KafkaUnreachable, match="the key cannot be read"):
        fetching.fetch(configured, Reference("events", 0, 1))

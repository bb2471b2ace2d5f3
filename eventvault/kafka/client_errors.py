"""Groups of librdkafka's errors that mean the same here."""

from __future__ import annotations

from confluent_kafka import KafkaError

TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
OUT_OF_RANGE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION)
CONNECTION_BROKEN = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)

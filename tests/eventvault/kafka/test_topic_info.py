"""The names of topics, and the sizes of their messages."""

from eventvault.kafka import config
from eventvault.kafka.topic_info import dead_letter_topic


def test_a_dead_letter_topic_has_a_name_that_kafka_accepts() -> None:
    assert dead_letter_topic("events") == "events.dead-letter"
    assert len(dead_letter_topic("e" * 249)) == 249


def test_a_dead_letter_fits_where_its_message_did() -> None:
    assert config.LARGEST_MESSAGE_BYTES >= 100 * 2**20

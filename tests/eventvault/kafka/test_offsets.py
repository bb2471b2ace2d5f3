"""Offsets as they are kept in LevelDB, and the judgement whether they still mean what they meant."""

from eventvault.kafka import config
from eventvault.kafka.offset_check import check_offset
from eventvault.kafka.offsets import StoredOffset, checksum, offset_key, offset_put, stored_offsets
from eventvault.kafka.topic_info import TopicInfo, dead_letter_topic

STORED = StoredOffset(next=10, crc=1, leader_epoch=2, topic_id="T", cluster_id="C")
LOOK = TopicInfo("C", "T", 1)


def test_a_key_is_k_topic_zero_and_partition() -> None:
    assert offset_key("events", 258) == b"kevents\x00\x00\x00\x01\x02"


def test_what_is_noted_is_read_back_for_its_topic_only() -> None:
    notes = dict(
        [
            offset_put("events", 0, STORED),
            offset_put("events", 7, StoredOffset(next=1)),
            offset_put("events-2", 0, STORED),
        ]
    )
    assert stored_offsets("events", {**notes, b"kevents\x00odd": b"", b"mstore": b""}) == {
        0: STORED,
        7: StoredOffset(next=1),
    }


def test_the_checksum_is_crc32c() -> None:
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(None) == checksum(b"") == 0


def test_an_offset_within_the_same_topic_is_gone_on_from() -> None:
    for low, high in ((0, 10), (10, 10), (3, 99)):
        assert check_offset("events", 0, STORED, LOOK, low, high) is None


def test_an_offset_that_means_something_else_is_not() -> None:
    def code(topic_info: TopicInfo, low: int, high: int) -> str:
        problem = check_offset("events", 0, STORED, topic_info, low, high)
        return "" if problem is None else problem.code

    assert code(TopicInfo("C", "U", 1), 0, 10) == "kafka_topic_recreated"
    assert code(TopicInfo("D", None, 1), 0, 10) == "kafka_cluster_changed"
    assert code(TopicInfo("D", "T", 1), 0, 10) == ""
    assert code(TopicInfo(None, None, 1), 0, 10) == ""
    assert code(LOOK, 0, 9) == "kafka_topic_truncated"
    assert code(LOOK, 11, 20) == "kafka_messages_gone"


def test_a_dead_letter_topic_has_a_name_that_kafka_takes() -> None:
    assert dead_letter_topic("events") == "events.dead-letter"
    assert len(dead_letter_topic("e" * 249)) == 249


def test_a_dead_letter_fits_where_its_message_did() -> None:
    assert config.LARGEST_MESSAGE_BYTES >= 100 * 2**20

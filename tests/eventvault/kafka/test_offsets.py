"""Offsets as they are stored in LevelDB."""

from eventvault.kafka.offsets import StoredOffset, checksum, offset_key, offset_put, stored_by_topic

STORED = StoredOffset(next=10, crc=1, leader_epoch=2, topic_id="T", cluster_id="C")


def test_a_key_is_k_topic_zero_and_partition() -> None:
    assert offset_key("events", 258) == b"kevents\x00\x00\x00\x01\x02"


def test_what_is_stored_is_read_back_by_its_topic() -> None:
    later = StoredOffset(next=1)
    puts = [("events", 0, STORED), ("events", 7, later), ("events-2", 0, STORED)]
    metadata = dict(offset_put(topic, partition, offset) for topic, partition, offset in puts)
    metadata |= {b"kevents\x00odd": b"", b"mstore": b""}
    assert stored_by_topic(metadata) == {"events": {0: STORED, 7: later}, "events-2": {0: STORED}}


def test_the_checksum_is_crc32c() -> None:
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(None) == checksum(b"") == 0

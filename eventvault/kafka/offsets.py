"""Stored offsets: how far the events topics were consumed, written to LevelDB together with the events.

Key: `k`, the topic's name, a zero byte, the partition as 4 bytes (big-endian). Value: a JSON object with the members of
`StoredOffset`, which also identify the topic: a recreated one has the same name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

import google_crc32c
import msgspec

from eventvault.database import keys
from eventvault.kafka.topic_info import TopicInfo

_PARTITION = struct.Struct(">I")
_KEY = re.compile(keys.KAFKA + rb"([a-zA-Z0-9._-]{1,249})\x00(.{4})", re.DOTALL)
"""Kafka allows these characters in the name of a topic, and this length."""
_MAX_PARTITION = 2**31 - 1
_MAX_ID = 200

Offsets = dict[str, dict[str, Any]]
"""Topic → partition → the members of its `StoredOffset`."""


class StoredOffset(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """next: the offset of the first message that was not consumed yet.

    crc, leader_epoch: CRC32C of the value, and leader epoch, of the message before it. topic_id, cluster_id: of the
    topic that it was consumed from. None: unknown.
    """

    next: int
    crc: int | None = None
    leader_epoch: int | None = None
    topic_id: str | None = None
    cluster_id: str | None = None


def after(offset: int, value: bytes | None, leader_epoch: int | None, topic_info: TopicInfo) -> StoredOffset:
    """Return the offset to store once the message at `offset` is consumed."""
    return StoredOffset(
        next=offset + 1,
        crc=checksum(value),
        leader_epoch=leader_epoch,
        topic_id=topic_info.topic_id,
        cluster_id=topic_info.cluster_id,
    )


def offset_key(topic: str, partition: int) -> bytes:
    return keys.KAFKA + topic.encode() + b"\x00" + _PARTITION.pack(partition)


def offset_put(topic: str, partition: int, offset: StoredOffset) -> tuple[bytes, bytes]:
    """Return the key and value of an offset, for the write of the events before it."""
    return offset_key(topic, partition), msgspec.json.encode(offset)


def stored_by_topic(metadata: Mapping[bytes, bytes]) -> dict[str, dict[int, StoredOffset]]:
    """Return the offsets of all topics' partitions from a registry's metadata; other keys are ignored."""
    found: dict[str, dict[int, StoredOffset]] = {}
    for key, value in metadata.items():
        if match := _KEY.fullmatch(key):
            partition = _PARTITION.unpack(match[2])[0]
            found.setdefault(match[1].decode(), {})[partition] = msgspec.json.decode(value, type=StoredOffset)
    return found


def checksum(value: bytes | None) -> int:
    """Return the CRC32C (RFC 3720, appendix B.4) of a message's value; no value counts as an empty one."""
    return int(google_crc32c.value(value or b""))


def from_metadata(metadata: Mapping[bytes, bytes]) -> Offsets:
    """Return the offsets of all topics from a registry's metadata."""
    offsets: Offsets = {}
    for key, value in metadata.items():
        topic, partition = key[len(keys.KAFKA) : -_PARTITION.size - 1].decode(), _PARTITION.unpack(key[-4:])[0]
        offsets.setdefault(topic, {})[str(partition)] = msgspec.json.decode(value)
    return offsets


def read_checked(metadata: Mapping[bytes, bytes]) -> Offsets:
    """As `from_metadata`, for a registry that is not trusted. Raises ValueError for what EventVault never writes."""
    offsets: Offsets = {}
    for key, value in metadata.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"{key!r:.80} is not the key of an offset")
        partition = _PARTITION.unpack(match[2])[0]
        offset = msgspec.json.decode(value, type=StoredOffset)
        if partition > _MAX_PARTITION or not _is_possible(offset):
            raise ValueError(f"the offset of partition {partition} of {match[1].decode()} is impossible")
        offsets.setdefault(match[1].decode(), {})[str(partition)] = msgspec.to_builtins(offset)
    return offsets


def read_or_empty(metadata: Mapping[bytes, bytes]) -> Offsets:
    """As `read_checked`, but return no offsets if they cannot be read."""
    try:
        return read_checked(metadata)
    except (ValueError, msgspec.MsgspecError):
        return {}


def lower_of(one: Offsets, other: Offsets) -> Offsets:
    """Return the offsets of `one`, each replaced by that of `other` if that is lower."""
    return {
        topic: {
            partition: min(offset, other.get(topic, {}).get(partition, offset), key=lambda stored: stored["next"])
            for partition, offset in partitions.items()
        }
        for topic, partitions in one.items()
    }


def _is_possible(offset: StoredOffset) -> bool:
    texts = (offset.topic_id or "", offset.cluster_id or "")
    numbers = ((offset.next, 2**63), (offset.crc or 0, 2**32), ((offset.leader_epoch or 0) + 1, 2**31))
    return all(len(text) <= _MAX_ID for text in texts) and all(0 <= number < bound for number, bound in numbers)


def to_metadata(offsets: Mapping[str, Mapping[str, Any]]) -> dict[bytes, bytes]:
    """Return the metadata that `from_metadata` reads."""
    return {
        offset_key(topic, int(partition)): msgspec.json.encode(value)
        for topic, partitions in offsets.items()
        for partition, value in partitions.items()
    }


def topic_ids(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the ids of the topics that the offsets of a registry belong to, as a manifest has them."""
    return {
        topic: offset["topicId"]
        for topic, partitions in from_metadata(metadata).items()
        for offset in partitions.values()
        if offset.get("topicId") is not None
    }


def describe(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, int]]:
    """Return topic → partition → next offset from a registry's metadata, as a manifest has it."""
    return {
        topic: {partition: offset["next"] for partition, offset in partitions.items()}
        for topic, partitions in from_metadata(metadata).items()
    }

"""Sends one record with headers of any bytes, which no Kafka client does: the wire protocol by hand.

Produce request, version 3, and record batch, version 2: https://kafka.apache.org/protocol.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

import google_crc32c

RawHeaders = Sequence[tuple[bytes, bytes | None]]


def produce(
    bootstrap: str, topic: str, value: bytes | None, headers: RawHeaders, partition: int = 0, key: bytes | None = None
) -> None:
    """Append one record to a partition. Raises AssertionError with the broker's error code."""
    batch = _batch(_record(key, value, headers))
    name = topic.encode()
    body = struct.pack(">hhi", -1, -1, 30_000)  # no transaction; all replicas acknowledge, within 30 s
    body += struct.pack(f">ih{len(name)}sii", 1, len(name), name, 1, partition)
    body += struct.pack(">i", len(batch)) + batch
    request = struct.pack(">hhih3s", 0, 3, 1, 3, b"raw") + body
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = _read(connection, struct.unpack(">i", _read(connection, 4))[0])
    code = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)[0]
    assert code == 0, f"the broker answers {code}"


def _record(key: bytes | None, value: bytes | None, headers: RawHeaders) -> bytes:
    content = b"\0" + _varint(0) + _varint(0) + _sized(key) + _sized(value) + _varint(len(headers))
    for name, text in headers:
        content += _sized(name) + _sized(text)
    return _varint(len(content)) + content


def _sized(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _batch(record: bytes) -> bytes:
    now = time.time_ns() // 10**6
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    after_length = struct.pack(">ibI", -1, 2, google_crc32c.value(checked)) + checked
    return struct.pack(">qi", 0, len(after_length)) + after_length


def _varint(number: int) -> bytes:
    rest, content = (number << 1) ^ (number >> 63), b""
    while rest > 127:
        content += bytes([rest & 127 | 128])
        rest >>= 7
    return content + bytes([rest])


def _read(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        piece = connection.recv(count - len(content))
        assert piece, "the broker closed the connection"
        content += piece
    return content

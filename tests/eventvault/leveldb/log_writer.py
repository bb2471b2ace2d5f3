"""Writes LevelDB's log format, for tests: `db/log_writer.cc` in a few lines, independent of the reader."""

from __future__ import annotations

import struct

import google_crc32c

BLOCK = 32768
HEADER = 7


def fragment(kind: int, payload: bytes) -> bytes:
    checksum = google_crc32c.value(bytes([kind]) + payload)
    masked = (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<IHB", masked, len(payload), kind) + payload


def write_log(records: list[bytes]) -> bytes:
    log = b""
    for record in records:
        begun = False
        while True:
            room = BLOCK - len(log) % BLOCK
            if room < HEADER:
                log += b"\0" * room
                continue
            part, record = record[: room - HEADER], record[room - HEADER :]
            kind = {(False, True): 1, (False, False): 2, (True, False): 3, (True, True): 4}[begun, not record]
            log += fragment(kind, part)
            begun = True
            if not record:
                break
    return log

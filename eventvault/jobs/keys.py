"""The keys of `jobs_db`; `docs/format.md` describes all of them.

Text before the end of a key has an end mark, as in `eventvault.database.keys`. An order is a job's number among all.
"""

from __future__ import annotations

import struct

from eventvault.jobs.job import State

RECORD = b"j"
PAYLOAD = b"b"
RESULT = b"r"
WAITING = b"w"
ACTIVE = b"a"
SESSION = b"h"
UNIQUE = b"u"
KEYED = b"o"
HEAD = b"i"
CREATED = b"g"
STATE = b"n"
TYPE = b"y"
ENDED = b"e"
SCHEDULE = b"c"
POSITION = b"k"
OUTBOX = b"x"
QUARANTINE = b"q"
KNOWN_TYPE = b"d"
PAUSED = b"p"
PAUSES_NEW = PAUSED
"""Whether types that a worker names for the first time are paused, too: the key of a type without a name."""
TICKS = b"t"
META_SCHEMA = b"mschema"
META_DISPATCHER = b"mdispatcher"
META_COUNTS = b"mcounts"
META_RELEASE = b"mrelease"
"""Whether held jobs are being released."""
META_HELD = b"mheld"
"""Whether nothing is sent or fired until somebody resumes."""
META_LOSSES = b"mlosses"
"""The losses of the topics of jobs, until somebody accepts them."""
META_NEW = b"mnew"
"""Whether the unfinished jobs of another `jobs_db` must still be taken over."""
META_ADOPTED = b"madopted"
"""The id of the dispatcher whose unfinished jobs were taken over."""

UNFINISHED, IS_HELD = b"u", b"h"
GROUPS: dict[State, bytes] = {
    "pending": UNFINISHED,
    "sent": UNFINISHED,
    "running": UNFINISHED,
    "held": IS_HELD,
    "done": b"d",
    "dead": b"x",
    "cancelled": b"c",
}
"""State → its group in the indexes STATE and TYPE. A job that is sent stays in its group, UNFINISHED."""

LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9
_ORDER = struct.Struct(">Q")
_DUE = struct.Struct(">BqQ")
_ENDED = struct.Struct(">?qQ")
_POSITION = struct.Struct(">I")
_OFFSET = struct.Struct(">IQ")


def text(value: str) -> bytes:
    return value.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def record_key(job_id: str) -> bytes:
    return RECORD + job_id.encode()


def payload_key(job_id: str) -> bytes:
    return PAYLOAD + job_id.encode()


def result_key(job_id: str) -> bytes:
    return RESULT + job_id.encode()


def active_key(job_id: str) -> bytes:
    return ACTIVE + job_id.encode()


def session_key(session: str) -> bytes:
    return SESSION + session.encode()


def unique_key(unique: str) -> bytes:
    return UNIQUE + unique.encode()


def waiting_prefix(job_type: str, priority: int) -> bytes:
    """Return the prefix of a queue's keys. The most urgent priority sorts first."""
    return WAITING + text(job_type) + bytes([HIGHEST_PRIORITY - priority])


def waiting_key(job_type: str, priority: int, run_at: int, order: int) -> bytes:
    return WAITING + text(job_type) + _DUE.pack(HIGHEST_PRIORITY - priority, run_at, order)


def read_waiting(key: bytes) -> tuple[int, int]:
    """Return when the job of a waiting key is due, and its order."""
    _, run_at, order = _DUE.unpack(key[-_DUE.size :])
    return run_at, order


def type_of_waiting(key: bytes) -> str:
    return key[1 : -_DUE.size - 2].replace(b"\x00\xff", b"\x00").decode()


def end_of(prefix: bytes) -> bytes:
    """Return a key after all keys that begin with `prefix`: numbers and text marks never begin with this byte."""
    return prefix + b"\xff" * 20


def keyed_prefix(key: str) -> bytes:
    return KEYED + text(key)


def keyed_key(key: str, place: int) -> bytes:
    return KEYED + text(key) + _ORDER.pack(place)


def head_key(key: str) -> bytes:
    """Return the key under which the job is that may run, of all jobs with this `key`."""
    return HEAD + key.encode()


def created_key(order: int) -> bytes:
    return CREATED + _ORDER.pack(order)


def state_key(group: bytes, order: int) -> bytes:
    return STATE + group + _ORDER.pack(order)


def state_value(created: int, job_id: str) -> bytes:
    return _ORDER.pack(created) + job_id.encode()


def read_state_value(value: bytes) -> tuple[int, str]:
    """Return when the job was created, and its id."""
    return int.from_bytes(value[: _ORDER.size], "big"), value[_ORDER.size :].decode()


def type_prefix(job_type: str, group: bytes) -> bytes:
    return TYPE + text(job_type) + group


def type_key(job_type: str, group: bytes, order: int) -> bytes:
    return TYPE + text(job_type) + group + _ORDER.pack(order)


def ended_prefix(*, is_dead: bool) -> bytes:
    return ENDED + (b"\x01" if is_dead else b"\x00")


def ended_key(*, is_dead: bool, ended: int, order: int) -> bytes:
    return ENDED + _ENDED.pack(is_dead, ended, order)


def read_ended(key: bytes) -> tuple[int, int]:
    """Return when the job ended, and its order."""
    _, ended, order = _ENDED.unpack(key[1:])
    return ended, order


def order_of(key: bytes) -> int:
    """Return the order at the end of an index key."""
    order: int = _ORDER.unpack(key[-_ORDER.size :])[0]
    return order


def outbox_key(number: int) -> bytes:
    return OUTBOX + _ORDER.pack(number)


def schedule_key(name: str) -> bytes:
    return SCHEDULE + name.encode()


def known_type_key(name: str) -> bytes:
    return KNOWN_TYPE + name.encode()


def paused_key(name: str) -> bytes:
    return PAUSED + name.encode()


def position_key(topic: str, partition: int) -> bytes:
    return POSITION + text(topic) + _POSITION.pack(partition)


def read_position(key: bytes) -> tuple[str, int]:
    topic = key[1 : -_POSITION.size - 2].replace(b"\x00\xff", b"\x00").decode()
    return topic, int.from_bytes(key[-_POSITION.size :], "big")


def quarantine_key(topic: str, partition: int, offset: int) -> bytes:
    return QUARANTINE + text(topic) + _OFFSET.pack(partition, offset)

"""How long a record in an untrusted database may be: as long as an event that can be posted.

It follows MAX_BODY_BYTES, which `use` sets in each process; a chore gets it from its parent.
"""

from __future__ import annotations

DEFAULT_BODY_BYTES = 32 * 2**20
LARGEST_BODY_BYTES = 128 * 2**20
"""The largest value of MAX_BODY_BYTES."""
LONGEST_KEY = 2**16
_ENVELOPE_BYTES = 2 * 2**20
"""Room for the attributes and the key beside an event's data, and for a message of Kafka in quarantine."""
_GROUP_BYTES = 16 * 2**20
"""Room for further appends in the same write."""

_max_body_bytes = DEFAULT_BODY_BYTES


def use(max_body_bytes: int) -> None:
    """Set the bound of this process. max_body_bytes: the setting MAX_BODY_BYTES."""
    global _max_body_bytes
    _max_body_bytes = max_body_bytes


def longest_value() -> int:
    """Return how many bytes a record of another program may have: it must fit into one body."""
    return _max_body_bytes


def longest_event() -> int:
    """Return how many bytes a stored event may have: a body that is not JSON is stored as base64."""
    return _max_body_bytes * 4 // 3 + _ENVELOPE_BYTES


def longest_write() -> int:
    """Return how many bytes one write of events may have."""
    return longest_event() + _GROUP_BYTES

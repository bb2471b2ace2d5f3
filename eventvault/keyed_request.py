"""A request with an `Idempotency-Key`, and the errors for a repeated request that cannot have the first answer."""

from __future__ import annotations

import msgspec

from eventvault.errors import IdempotencyKeyInUse, IdempotencyKeyReused

KEEP_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long a repeated request gets the first answer."""


class KeyedRequest(msgspec.Struct, array_like=True, frozen=True):
    """id: 16 bytes that stand for the client, the method, the path and the key.

    content: the SHA-256 in hex of what was sent. refusal: the answer to a refused request, which stores no events.
    """

    id: bytes
    content: str
    refusal: str = ""


def is_expired(at: int, now: int) -> bool:
    return at + KEEP_MICROSECONDS <= now


def key_in_use_error() -> IdempotencyKeyInUse:
    return IdempotencyKeyInUse(
        "the first request with this Idempotency-Key is still running",
        hint="send it again, with the same key, when it has ended",
    )


def key_reused_error() -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        "another request with this Idempotency-Key had another content",
        hint="send a new key with each new request, and the same content when a request is repeated",
    )

"""Waits for a store that is away: between two stores, and while a restore is applied."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from eventvault.errors import StoreRestoring, StoreUnavailable

_RETRY_SECONDS = 60.0
"""Seconds that a started answer waits for an unavailable store, because its status is already sent."""

T = TypeVar("T")


def retry_while_store_is_away(call: Callable[[], T]) -> T:
    """Return the result of `call`, and repeat it while the store is unavailable or restoring."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return call()
        except (StoreUnavailable, StoreRestoring):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

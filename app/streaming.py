"""Answers of any size that are read from the store page by page while they are sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from flask import Response

from eventvault.errors import StoreRestoring, StoreUnavailable

NDJSON = "application/x-ndjson"

_RETRY_SECONDS = 60.0
"""Seconds that an answer that has begun waits for a store that is away: its status cannot be changed any more."""

T = TypeVar("T")


def ndjson_response(lines: Iterator[bytes], release: Callable[[], None], name: str) -> Response:
    """NDJSON for a file of that name. release: called when the answer has ended, however it does."""
    response = Response(lines, content_type=NDJSON)
    response.call_on_close(release)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def retry_while_store_is_away(call: Callable[[], T]) -> T:
    """What `call` gives, which is tried again as long as the store is away."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return call()
        except (StoreUnavailable, StoreRestoring):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

"""Streams answers of any size: they are read from the store page by page while they are sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from flask import Response

from eventvault.errors import StoreRestoring, StoreUnavailable

NDJSON = "application/x-ndjson"

_RETRY_SECONDS = 60.0
"""Seconds that a started answer waits for an unavailable store, because its status is already sent."""

T = TypeVar("T")


def ndjson_response(lines: Iterator[bytes], release: Callable[[], None], name: str) -> Response:
    """Return an NDJSON answer for a file of that name. release: called when the answer ends or breaks off."""
    response = Response(lines, content_type=NDJSON)
    response.call_on_close(release)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    response.headers["X-Accel-Buffering"] = "no"
    return response


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

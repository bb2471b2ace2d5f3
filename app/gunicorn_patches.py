"""What gunicorn answers without asking the application: how long an address may be, and its errors in the one shape.

gunicorn knows neither a longer request line than 8,190 bytes, but for none at all, nor another form of its errors than
a page of HTML: both are replaced in its modules, so that `worker_class` and what is measured stay gunicorn's own.
"""

from __future__ import annotations

import socket

import orjson
from gunicorn import util
from gunicorn.http import message

MAX_REQUEST_LINE = 2**17
"""Bytes. `id`, `source`, `type` and `subject` have 2,048 characters each, of up to 12 bytes when they are encoded."""

_MAX_REASON_LENGTH = 500
"""Characters of gunicorn's reason, which may repeat the whole of what it does not understand."""


def install() -> None:
    """Before the workers are forked. Doing it again, as gunicorn reads its configuration again, changes nothing."""
    message.MAX_REQUEST_LINE = MAX_REQUEST_LINE
    util.write_error = write_error


def write_error(client: socket.socket, status: int, reason: str, why: str) -> None:
    """In the place of `gunicorn.util.write_error`. why: gunicorn's words, empty for an error of the service."""
    from app.errors import error_body_for_status  # a worker has it loaded, and the master must not load Flask

    message = f"the request cannot be read: {why[:_MAX_REASON_LENGTH]}" if why else reason.lower()
    body = orjson.dumps(error_body_for_status(status, message))
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(client, head.encode("latin1") + body)

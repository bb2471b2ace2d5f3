"""Patches of gunicorn: a longer request line, its own errors as JSON, and the command of a master after SIGUSR2.

gunicorn limits the request line to 8,190 bytes or not at all, and it answers its own errors with HTML.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from gunicorn import util
from gunicorn.http import message

MAX_REQUEST_LINE = 2**17
"""Bytes. `id`, `source`, `type` and `subject` have up to 2,048 characters each, percent-encoded up to 12 bytes each."""

_MAX_REASON_LENGTH = 500
"""Characters of gunicorn's reason, which may quote the whole malformed request."""


def install() -> None:
    """Apply the patches before the workers are forked. A second call, after SIGHUP, changes nothing."""
    message.MAX_REQUEST_LINE = MAX_REQUEST_LINE
    util.write_error = write_error


def start_next_master_alike(arbiter: Any) -> None:
    """Let SIGUSR2 run the command that started this master.

    gunicorn runs `sys.argv` as a script. After `python -m gunicorn` that is a file in gunicorn's own folder, which then
    comes first in the path, so `gunicorn/http` hides the module `http` of Python.
    """
    arbiter.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]


def write_error(client: Any, status: int, reason: str, why: str) -> None:
    """Replace `gunicorn.util.write_error`. why: gunicorn's reason, empty for an error inside the service."""
    from app.errors import error_body_for_status  # workers have it loaded; the master must not load Flask

    message = f"the request cannot be read: {why[:_MAX_REASON_LENGTH]}" if why else reason.lower()
    util.write_nonblock(client, error_answer(status, reason, error_body_for_status(status, message)))


def error_answer(status: int, reason: str, body: Mapping[str, Any], *headers: str) -> bytes:
    """Return a whole answer that ends the connection."""
    content = orjson.dumps(body)
    head = (
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(content)}",
        *headers,
    )
    return "\r\n".join((*head, "", "")).encode("latin1") + content

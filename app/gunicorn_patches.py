"""Patches of gunicorn: a longer request line, its own errors as JSON, and the command of a master after SIGUSR2.

gunicorn limits the request line to 8,190 bytes or not at all, and it answers its own errors with HTML. In its log and
its answers it quotes what is malformed, which may be a token or the data of an event.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from gunicorn import util
from gunicorn.http import errors, message

MAX_REQUEST_LINE = 2**17
"""Bytes. `id`, `source`, `type` and `subject` have up to 2,048 characters each, percent-encoded up to 12 bytes each."""

_WITHOUT_QUOTES = {
    errors.NoMoreData: "it ends early",
    errors.InvalidRequestLine: "malformed",
    errors.InvalidRequestMethod: "malformed",
    errors.InvalidHTTPVersion: "not supported",
    errors.InvalidHeader: "a header is malformed",
    errors.InvalidHeaderName: "the name of a header is malformed",
    errors.ObsoleteFolding: "a header is folded, which HTTP forbids",
    errors.ExpectationFailed: "only 100-continue may be expected",
    errors.UnsupportedTransferCoding: "the transfer coding is not supported",
    errors.InvalidChunkSize: "the size of a chunk is malformed",
    errors.ChunkMissingTerminator: "a chunk does not end where its size says",
    errors.InvalidProxyLine: "the PROXY line is malformed",
    errors.InvalidH2CPreface: "the HTTP/2 connection preface is malformed",
}
"""gunicorn's errors that quote the request → the text that replaces the quotation."""


def install() -> None:
    """Apply the patches before the workers are forked. A second call, after SIGHUP, changes nothing."""
    message.MAX_REQUEST_LINE = MAX_REQUEST_LINE
    util.write_error = write_error
    for kind, text in _WITHOUT_QUOTES.items():
        kind.__str__ = lambda _, text=text: text


def keep_command_for_next_master(arbiter: Any) -> None:
    """Let SIGUSR2 run the command that started this master.

    gunicorn runs `sys.argv` as a script. After `python -m gunicorn` that is a file in gunicorn's own folder, which then
    comes first in the path, so `gunicorn/http` hides the module `http` of Python.
    """
    arbiter.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]


def write_error(client: Any, status: int, reason: str, why: str) -> None:
    """Replace `gunicorn.util.write_error`. why: gunicorn's reason, empty for an error inside the service."""
    from app.errors import error_body_for_status  # workers have it loaded; the master must not load Flask

    message = f"the request cannot be read: {why}" if why else reason.lower()
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

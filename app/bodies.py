"""Request bodies: read within `MAX_BODY_BYTES` and within the budget of the process, and inflated if compressed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

from flask import request
from werkzeug.exceptions import RequestTimeout

from app.access.permission import ended_permission
from app.edge import current_edge
from app.request_end import at_request_end
from eventvault.errors import MalformedInput, TooLarge, UnsupportedMediaType
from eventvault.gzip_format import WBITS

CHUNK = 256 * 1024
SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size need no budget: all threads together take little for them."""
_SLICE = 4096
"""Bytes that are inflated at a time. zlib copies what follows a gzip member in them; a member may have 20 bytes."""

_HELD = "eventvault.held_body"
_GZIP = ("gzip", "x-gzip")


def read_body() -> bytes:
    """Return the request's whole body, chunked or not, inflated if its `Content-Encoding` is gzip.

    It can be read once, or again after `hold_body`. Raises TooLarge above `MAX_BODY_BYTES`, UnsupportedMediaType for
    another encoding, MalformedInput if it ends early or does not inflate, TooBusy if the bodies of other requests take
    the whole budget.
    """
    environ = request.environ
    if _HELD in environ:
        held: bytes = environ.pop(_HELD)
        return held
    limit, length = current_edge().settings.max_body_bytes, request.content_length
    if (length or 0) > limit:
        raise _too_large(limit)
    if length and length <= SMALL_BODY_BYTES and "HTTP_CONTENT_ENCODING" not in environ:
        small = read_some(length)
        if len(small) == length:
            return small  # usually it arrived whole, and no other piece follows
        return small + b"".join(iter(read_some, b""))
    body, memory = io.BytesIO(), current_edge().bodies.reservation()
    at_request_end(memory.release)
    for piece in _read_decoded(limit):
        size = body.tell() + len(piece)
        if size > limit:
            raise _too_large(limit)
        if size > max(memory.size, SMALL_BODY_BYTES):
            memory.grow(max(size - memory.size, CHUNK))
        body.write(piece)
    return body.getvalue()


def hold_body() -> bytes:
    """Return the request's whole body, and let the view read it too. Raises as `read_body` does."""
    body = read_body()
    request.environ[_HELD] = body
    return body


def read_some(size: int = CHUNK) -> bytes:
    """Return the next part of the request's body, at most `size` bytes; empty at its end.

    Raises MalformedInput if the body ends early, RequestTimeout if it arrives too slowly, and TokenWrong, TokenMissing
    or SessionEnded if the client may not send the rest any more.
    """
    try:
        return request.stream.read(size)
    except TimeoutError as error:
        raise RequestTimeout(str(error)) from error
    except PermissionError as error:
        raise ended_permission() from error
    except Exception as error:  # each server has its own exceptions for this
        raise MalformedInput(
            f"the body ended early or is not chunked as HTTP says: {error}", hint="send the whole request again"
        ) from error


def _read_decoded(limit: int) -> Iterator[bytes]:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return _read_received(limit)
    if coding in _GZIP:
        return _inflate(_read_received(limit))
    raise UnsupportedMediaType(
        f"bodies encoded as {coding[:80]} are not supported", hint="send it with Content-Encoding: gzip, or without"
    )


def _read_received(limit: int) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises TooLarge: gzip members without content could otherwise arrive for ever."""
    size = 0
    while piece := read_some():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


def _inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of gzip members, in pieces of at most CHUNK bytes. Raises MalformedInput."""
    inflater = zlib.decompressobj(WBITS)
    ended = False
    try:
        for piece in pieces:
            for start in range(0, len(piece), _SLICE):
                rest = piece[start : start + _SLICE]
                while rest:
                    if ended:
                        inflater, ended = zlib.decompressobj(WBITS), False
                    inflated = inflater.decompress(rest, CHUNK)
                    if inflated:
                        yield inflated
                    ended = inflater.eof
                    rest = inflater.unused_data if ended else inflater.unconsumed_tail
    except zlib.error as error:
        why = str(error).rpartition(": ")[2]
        raise MalformedInput(
            f"the body is not valid gzip: {why}",
            hint="compress it again, or send it as it is, without Content-Encoding",
        ) from error
    if not ended:
        raise MalformedInput("the body ends within its gzip data", hint="send the request again")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", hint="send less in one request, or raise MAX_BODY_BYTES")

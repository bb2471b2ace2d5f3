"""Begins a stream: takes a slot for it, and hands the client's socket to the worker's writer.

A server with another worker class, such as `flask run`, sends the stream from the thread of its request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from flask import Response, request

from app import metrics
from app.access.permission import permission_of_request
from app.client_socket import ClientSocket
from app.edge import current_edge
from app.request_end import at_request_end
from app.streams import writer
from app.streams.messages import CONTENT_TYPE, RETRY
from app.streams.source import StreamSource
from app.streams.writer import Stream

_CHECK_SECONDS = 0.5
"""Seconds between two checks of a thread that sends a stream whether its client may still have it."""


def stream_reply(begin: Callable[[], tuple[bytes, StreamSource]]) -> Response:
    """Return an answer that is a stream. begin: returns the first bytes to send, and the source of the rest.

    Raises TooBusy if this process sends as many streams as it may.
    """
    release = _take_slot()
    try:
        first, source = begin()
    except BaseException:
        release()
        raise
    if request.method == "HEAD":
        source.close()
        release()
        response = Response(content_type=CONTENT_TYPE)
    else:
        client = request.environ.get("gunicorn.socket")
        if isinstance(client, ClientSocket):
            body: _WriterBody | _ThreadBody = _WriterBody(client, source, release)
        else:
            body = _ThreadBody(source, release)
        response = Response(body.parts(RETRY + first), content_type=CONTENT_TYPE)
        at_request_end(body.close)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _take_slot() -> Callable[[], None]:
    free = current_edge().streams.take()
    metrics.STREAMS.inc()

    def release() -> None:
        metrics.STREAMS.dec()
        free()

    return release


class _WriterBody:
    """The body of a stream whose client the writer serves once the headers are sent."""

    def __init__(self, client: ClientSocket, source: StreamSource, release: Callable[[], None]) -> None:
        chunked = request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
        self._client = client
        self._stream: Stream | None = Stream(source, release, chunked=chunked)

    def parts(self, first: bytes) -> Iterator[bytes]:
        self._client.close_after_answer()
        yield first
        self._client.stream, self._stream = self._stream, None

    def close(self) -> None:
        """End a stream that was not handed over. Called when the request ends."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class _ThreadBody:
    """The body of a stream that is sent by the thread of its request."""

    def __init__(self, source: StreamSource, release: Callable[[], None]) -> None:
        self._source = source
        self._release = release
        self._is_closed = False
        self._may_go_on = permission_of_request()

    def parts(self, first: bytes) -> Iterator[bytes]:
        yield first
        woken = threading.Event()
        now = time.monotonic()
        ends, comment_at = now + writer.STREAM_SECONDS, now + writer.COMMENT_SECONDS
        self._source.start(woken.set)
        while time.monotonic() < ends and not self._source.ended and self._may_go_on():
            woken.clear()
            piece = self._source.take()
            if not piece:
                woken.wait(max(0.0, min(comment_at, ends, time.monotonic() + _CHECK_SECONDS) - time.monotonic()))
                piece = self._source.comment() if time.monotonic() >= comment_at else b""
            if piece:
                comment_at = time.monotonic() + writer.COMMENT_SECONDS
                yield piece

    def close(self) -> None:
        closed, self._is_closed = self._is_closed, True
        if not closed:
            self._source.close()
            self._release()

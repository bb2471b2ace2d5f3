"""Answers to requests that wait until Kafka has their events. They hold no thread: the worker's writer sends them.

One thread of a process waits in the store for all of them, while there are any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus

from flask import Response, request

from app.client_socket import ClientSocket
from app.request_end import at_request_end
from app.streams.shared_threads import SharedThreads
from app.streams.writer import Stream
from eventvault.database.values import Head, Published
from eventvault.store.ports.store import Store

PATIENCE_SECONDS = 10.0
"""Seconds that a request waits for Kafka. Then the answer is that its events are on disk, and not in Kafka yet."""
_CALL_SECONDS = 5.0
"""Seconds that one call waits in the store."""
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "date"})

Finish = Callable[[Published | None], tuple[int, bytes]]
"""Returns status and body of an answer. Called with how far publishing got; None: it has not reached the events."""


class PublishedFeed:
    """Waits for news of how far publishing got. It has a thread only between `join` and `leave`. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = SharedThreads({"published": self._follow})
        self._got: Published | None = None

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` whenever something was published, until `leave`. Raises RuntimeError if there is no thread."""
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def when_reached(self, wanted: Head) -> Published | None:
        return when_reached(self._got, wanted)

    def _follow(self) -> None:
        got = self._store.wait_for_published(self._got, _CALL_SECONDS)
        if got != self._got:
            self._got = got
            self._threads.wake_all()


def when_reached(got: Published | None, wanted: Head) -> Published | None:
    """Return `got` if publishing has certainly reached `wanted`, otherwise None.

    After a restore this is unknown for earlier requests.
    """
    is_reached = got is not None and got.generation == wanted.generation and got.sequence >= wanted.sequence
    return got if is_reached else None


def answer_when_published(
    store: Store, feed: PublishedFeed, wanted: Head, finish: Finish, release: Callable[[], None]
) -> Response:
    """Return the answer to a request whose events are on disk, up to `wanted`. release: called once it has ended."""
    client = request.environ.get("gunicorn.socket")
    if isinstance(client, ClientSocket):
        return _WriterBody(client, _AnswerSource(feed, wanted, finish), release).response
    try:
        deadline, got = time.monotonic() + PATIENCE_SECONDS, None
        while when_reached(got, wanted) is None and time.monotonic() < deadline:
            got = store.wait_for_published(got, max(0.0, deadline - time.monotonic()))
    finally:
        release()
    status, body = finish(when_reached(got, wanted))
    return Response(body, status, content_type="application/json")


class _AnswerSource:
    """The source of the whole answer, head and body. response: has the headers of the answer, once it is made."""

    def __init__(self, feed: PublishedFeed, wanted: Head, finish: Finish) -> None:
        self.ended = False
        self.response: Response | None = None
        self._feed = feed
        self._wanted = wanted
        self._finish = finish
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def start(self, wake: Callable[[], None]) -> None:
        try:
            self._feed.join(self, wake)
        except RuntimeError:  # there is no thread: answer at once that Kafka is pending
            self._deadline = 0.0

    def take(self) -> bytes:
        got = self._feed.when_reached(self._wanted)
        return self.answer(got) if got is not None or time.monotonic() >= self._deadline else b""

    def answer(self, got: Published | None) -> bytes:
        self.ended = True
        assert self.response is not None, "the answer is handed over once its headers are complete"
        status, body = self._finish(got)
        headers = [f"{name}: {value}" for name, value in self.response.headers if name.lower() not in _OWN_HEADERS]
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            "Connection: close",
            *headers,
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join((*head, "", "")).encode("latin-1") + body

    def comment(self) -> bytes:
        return b""

    def close(self) -> None:
        self._feed.leave(self)


class _Answer(Stream):
    """Sends the answer. If the writer ends it early, the client at least learns that its events are on disk."""

    def __init__(self, source: _AnswerSource, release: Callable[[], None]) -> None:
        super().__init__(source, release, chunked=False)
        self._answer_source = source

    def finish(self, connection: ClientSocket) -> None:
        if not self._answer_source.ended:
            self.put(self._answer_source.answer(None))
        super().finish(connection)


class _WriterBody:
    """Hands the client to the writer before gunicorn's thread sends anything; what the thread would send is dropped."""

    def __init__(self, client: ClientSocket, source: _AnswerSource, release: Callable[[], None]) -> None:
        self._client = client
        self._stream: _Answer | None = _Answer(source, release)
        self.response = source.response = Response(self._parts(), 202, content_type="application/json")
        at_request_end(self.close)

    def _parts(self) -> Iterator[bytes]:
        self._client.close_after_answer()
        self._client.stream, self._stream = self._stream, None
        yield b""

    def close(self) -> None:
        """End the answer if it was not handed over. Called when the request ends."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

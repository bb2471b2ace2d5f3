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
"""How long a request waits for Kafka; then it is told that its events are on disk, and not in Kafka yet."""
_CALL_SECONDS = 5.0
"""How long one call waits in the store."""
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "date"})

Finish = Callable[[Published | None], tuple[int, bytes]]
"""Returns status and body of an answer. It is called with how far publishing got; None: not up to the events yet."""


class PublishedFeed:
    """Hears how far publishing got. It has a thread only between `join` and `leave`. Safe for many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = SharedThreads({"published": self._follow})
        self._got: Published | None = None

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` whenever something was published, until `leave`. Raises RuntimeError if there is no thread."""
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def beyond(self, wanted: Head) -> Published | None:
        return beyond(self._got, wanted)

    def _follow(self) -> None:
        got = self._store.wait_for_published(self._got, _CALL_SECONDS)
        if got != self._got:
            self._got = got
            self._threads.wake_all()


def beyond(got: Published | None, wanted: Head) -> Published | None:
    """Return how far publishing got if that is surely `wanted` at least, else None.

    After a restore nobody can say so of an earlier request.
    """
    is_of = got is not None and got.generation == wanted.generation and got.sequence >= wanted.sequence
    return got if is_of else None


def answer_when_published(
    store: Store, feed: PublishedFeed, wanted: Head, finish: Finish, release: Callable[[], None]
) -> Response:
    """Return the answer to a request whose events are on disk, up to `wanted`. release: called once it has ended."""
    client = request.environ.get("gunicorn.socket")
    if isinstance(client, ClientSocket):
        return _HandedOver(client, _Waiting(feed, wanted, finish), release).response
    try:
        deadline, got = time.monotonic() + PATIENCE_SECONDS, None
        while beyond(got, wanted) is None and time.monotonic() < deadline:
            got = store.wait_for_published(got, max(0.0, deadline - time.monotonic()))
    finally:
        release()
    status, body = finish(beyond(got, wanted))
    return Response(body, status, content_type="application/json")


class _Waiting:
    """The source of one such answer: the whole answer, head and body. response: has its headers, once it is made."""

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
        except RuntimeError:  # there is no thread: its client hears at once that the rest is pending
            self._deadline = 0.0

    def take(self) -> bytes:
        got = self._feed.beyond(self._wanted)
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
    """If the writer ends it early, its client hears at least that its events are on disk."""

    def __init__(self, source: _Waiting, release: Callable[[], None]) -> None:
        super().__init__(source, release, chunked=False)
        self._waiting = source

    def finish(self, connection: ClientSocket) -> None:
        if not self._waiting.ended:
            self.put(self._waiting.answer(None))
        super().finish(connection)


class _HandedOver:
    """The client is the writer's before gunicorn's thread sends anything: what that would send is dropped."""

    def __init__(self, client: ClientSocket, source: _Waiting, release: Callable[[], None]) -> None:
        self._client = client
        self._stream: _Answer | None = _Answer(source, release)
        self.response = source.response = Response(self._parts(), 202, content_type="application/json")
        at_request_end(self.close)

    def _parts(self) -> Iterator[bytes]:
        self._client.close_after_answer()
        self._client.stream, self._stream = self._stream, None
        yield b""

    def close(self) -> None:
        """Called when the request ends: what was not handed over ends with it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

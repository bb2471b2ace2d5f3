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
from eventvault.database.values import Head
from eventvault.store.ports.store import Store

PATIENCE_SECONDS = 10.0
"""How long a request waits for Kafka; then it is told that its events are on disk, and still on their road."""
_CALL_SECONDS = 5.0
"""How long one call waits in the store."""
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "date"})

Finish = Callable[[bool], tuple[int, bytes]]
"""Returns status and body of an answer. It is called with whether Kafka has the events."""


class PublishedFeed:
    """Hears how far publishing got. It has a thread only between `join` and `leave`. Safe for many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = SharedThreads({"published": self._follow})
        self._head: Head | None = None

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` whenever something was published, until `leave`. Raises RuntimeError if there is no thread."""
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def has(self, wanted: Head) -> bool:
        head = self._head
        return head is not None and reaches(head, wanted)

    def _follow(self) -> None:
        head = self._store.wait_for_published(self._head, _CALL_SECONDS)
        if head != self._head:
            self._head = head
            self._threads.wake_all()


def reaches(head: Head, wanted: Head) -> bool:
    """Return whether Kafka surely has all up to `wanted`. After a restore nobody can say so of an earlier request."""
    return head.generation == wanted.generation and head.sequence >= wanted.sequence


def answer_when_published(
    store: Store, feed: PublishedFeed, wanted: Head, finish: Finish, release: Callable[[], None]
) -> Response:
    """Return the answer to a request whose events are on disk, up to `wanted`. release: called once it has ended."""
    client = request.environ.get("gunicorn.socket")
    if isinstance(client, ClientSocket):
        return _HandedOver(client, _Waiting(feed, wanted, finish), release).response
    try:
        deadline, head = time.monotonic() + PATIENCE_SECONDS, None
        while not (is_there := head is not None and reaches(head, wanted)) and time.monotonic() < deadline:
            head = store.wait_for_published(head, max(0.0, deadline - time.monotonic()))
    finally:
        release()
    status, body = finish(is_there)
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
        is_there = self._feed.has(self._wanted)
        return self.answer(is_there) if is_there or time.monotonic() >= self._deadline else b""

    def answer(self, is_there: bool) -> bytes:
        self.ended = True
        assert self.response is not None, "the answer is handed over once its headers are complete"
        status, body = self._finish(is_there)
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
            self.put(self._waiting.answer(is_there=False))
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

"""The source of a stream of events: from the tail of the feed, or page by page if the client is further behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import orjson

from app.streams.feed import EventFeed, PageReading, Tail
from app.streams.messages import COMMENT, id_of, message, note_id
from eventvault.database.values import Head, Page, Resumption, ScanQuery
from eventvault.events.event import sequence_of

PIECE_BYTES = 256 * 1024


class EventSource:
    """The source of one stream of events. query: the filters. resumption: where the stream begins."""

    def __init__(self, feed: EventFeed, query: ScanQuery, resumption: Resumption) -> None:
        self.ended = False
        self.position = Head(resumption.generation, resumption.sequence)
        self._feed = feed
        self._query = query
        self._wake: Callable[[], None] = lambda: None
        self._sent_id = self.position
        self._reading: PageReading | None = None
        self._page: Iterator[bytes] | None = None
        """The events of the page that are not sent yet."""

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._feed.join(self, wake)

    def close(self) -> None:
        self._feed.leave(self)
        self._end_reading()

    def comment(self) -> bytes:
        if self.position == self._sent_id:
            return COMMENT + b"\n"
        self._sent_id = self.position
        return COMMENT + note_id(id_of(self.position))

    def take(self) -> bytes:
        if self._reading is not None:
            return self._take_reading(self._reading)
        tail = self._feed.tail
        if tail is None:
            return b""
        if tail.generation == self.position.generation and tail.after <= self.position.sequence:
            return self._take_tail(tail)
        self._reading = PageReading(self.position, self._query, self._wake)
        self._feed.read(self._reading)
        return b""

    def _take_tail(self, tail: Tail) -> bytes:
        first = self.position.sequence
        pieces, size = [], 0
        for sequence, value in enumerate(islice(tail.events, first - tail.after, None), start=first + 1):
            self.position = Head(tail.generation, sequence)
            if self._query.matches(value):
                pieces.append(self._message(value))
                size += len(value)
                if size >= PIECE_BYTES:
                    break
        return b"".join(pieces)

    def _take_reading(self, reading: PageReading) -> bytes:
        match reading.outcome:
            case Page() as page:
                return self._take_page(page)
            case Resumption() as resumption:
                self._end_reading()
                self.position = Head(resumption.generation, resumption.sequence)
                return restore_message(resumption)
        return b""

    def _take_page(self, page: Page) -> bytes:
        if self._page is None:
            self._page = iter(page.events)
        pieces, size = [], 0
        for value in self._page:
            self.position = Head(page.generation, sequence_of(value))
            pieces.append(self._message(value))
            size += len(value)
            if size >= PIECE_BYTES:
                return b"".join(pieces)
        self.position = Head(page.generation, page.last_sequence if page.next is None else page.next)
        self._end_reading()
        return b"".join(pieces) or self.take()

    def _end_reading(self) -> None:
        reading, self._reading, self._page = self._reading, None, None
        if reading is not None:
            self._feed.done(reading)

    def _message(self, value: bytes) -> bytes:
        self._sent_id = self.position
        return message("event", value, id_of(self.position))


def restore_message(resumption: Resumption) -> bytes:
    """Return the message that says where the client's history ends; empty if it goes on in the current generation."""
    if resumption.fork_sequence is None:
        return b""
    position = Head(resumption.generation, resumption.sequence)
    body = {"generation": position.generation, "forkSequence": resumption.fork_sequence, "kind": resumption.kind}
    return message("restore", orjson.dumps(body), id_of(position))

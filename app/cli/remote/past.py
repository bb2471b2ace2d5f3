"""Reads moments of the past, and their difference, page by page from one answer that goes on between the pages."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import cast

import msgspec

from app.cli.remote import errors
from app.cli.remote.calls import ARCHIVE, past_members
from app.cli.remote.lines import read_lines
from app.cli.remote.transport import Request, Transport, get, post, without_key
from eventvault.database.values import Page, ScanQuery
from eventvault.events.event import sequence_of
from eventvault.past.values import DiffPage, DiffQuery, PastView

_DIFF_LINES = 1000
_MOST_OPEN = 4
"""Answers that stay open for their next page. The oldest one is closed, and begun again if its next page is needed."""


class _Line(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="in")


class _Summary(msgspec.Struct, frozen=True, rename="camel"):
    common_sequence: int


_kind_of = msgspec.json.Decoder(_Line).decode
_summary_of = msgspec.json.Decoder(_Summary).decode


class PastPages:
    """Reads pages from answers that stay open. Not for several threads at once, as the pages of a reader follow on."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._open: dict[object, Iterator[bytes]] = {}

    def close(self) -> None:
        while self._open:
            _close(self._open.popitem()[1])

    def page(self, query: ScanQuery) -> Page:
        """Return a page of a moment that `upto` fixes."""
        assert query.upto is not None, "a moment has an end"
        moment = _without_position(query)
        with self._opened((moment, query.after), self._events(query)) as (lines, retain):
            events = list(islice(lines, query.limit))
            last = _sequence_of(events[-1]) if len(events) == query.limit else query.upto
            if last < query.upto:
                retain((moment, last))
        return Page(events, last if last < query.upto else None, query.upto, query.generation or "")

    def diff(self, query: DiffQuery) -> DiffPage:
        """Return a page of a difference. `common` is known on the last page."""
        request = get("/api/backup/diff", from_=_text_of(query.one), to=_text_of(query.other))
        pair = (query.one, query.other)
        done = 0 if query.at is None else query.at[0]
        with self._opened((pair, done), self._skip(read_lines(self._transport, request), done)) as (lines, retain):
            differences = list(islice(lines, _DIFF_LINES))
            try:
                kinds = [_kind_of(line).kind for line in differences]
                common = _summary_of(differences[-1]).common_sequence if "summary" in kinds[-1:] else None
            except msgspec.MsgspecError as error:
                raise errors.unreadable(str(request), str(error)) from None
            if common is None and len(differences) < _DIFF_LINES:
                raise errors.unreadable(str(request), "it has no summary at its end")
            if common is None:
                retain((pair, done + len(differences)))
        counts = (kinds.count("from"), kinds.count("to"), kinds.count("both"))
        if common is None:
            return DiffPage(differences, (done + len(differences), 0), *counts, 0)
        return DiffPage(differences[:-1], None, *counts, common)

    def _events(self, query: ScanQuery) -> Iterator[bytes]:
        def request_after(after: int) -> Request:
            members = past_members(msgspec.structs.replace(query, after=after))
            return without_key(post("/api/backup/restore", {"into": "export", **members}), repeatable=True)

        return read_lines(self._transport, request_after(query.after), lambda last: request_after(_sequence_of(last)))

    @staticmethod
    def _skip(lines: Iterator[bytes], count: int) -> Iterator[bytes]:
        yield from islice(lines, count, None)

    @contextmanager
    def _opened(
        self, place: object, begun: Iterator[bytes]
    ) -> Iterator[tuple[Iterator[bytes], Callable[[object], None]]]:
        """Yield the lines that stayed open for this place, or `begun`, and a function that retains them for another."""
        lines = self._open.pop(place, begun)
        places: list[object] = []
        try:
            yield lines, places.append
        except BaseException:
            _close(lines)
            raise
        if not places:
            _close(lines)
            return
        self._open[places[0]] = lines
        if len(self._open) > _MOST_OPEN:
            _close(self._open.pop(next(iter(self._open))))


def _without_position(query: ScanQuery) -> ScanQuery:
    return msgspec.structs.replace(query, after=0, limit=1)


def _text_of(view: PastView) -> str:
    """Return a moment as the API takes it in an address."""
    if view.generation.startswith(ARCHIVE):
        return view.generation.removeprefix(ARCHIVE)
    return f"{view.generation}@{view.sequence}"


def _sequence_of(event: bytes) -> int:
    try:
        return sequence_of(event)
    except ValueError:
        raise errors.unreadable("the events", "an event has no `sequence` at its end") from None


def _close(lines: Iterator[bytes]) -> None:
    cast("Generator[bytes]", lines).close()

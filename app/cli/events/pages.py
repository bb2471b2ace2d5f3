"""The events that a command is about: the options that select them, and their pages."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, reduce
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from app.cli.moments import InstantType, MomentType
from app.store_retry import retry_while_store_is_away
from eventvault.database.values import Page, ScanQuery
from eventvault.events.event import indexed_of
from eventvault.past.values import PastView
from eventvault.restore.values import Moment
from eventvault.store.ports.event_log import Lease
from eventvault.store.ports.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])

PAGE = 1000
_CHECK_SECONDS = 0.5
_ANY = "*"

_FILTERS = (
    click.option("--type", "type_", metavar="TYPE", help="Of this type; `order.*`: of any that begins with `order.`"),
    click.option("--subject", help="With this subject."),
    click.option("--source", help="Of this source."),
    click.option("--from", "recorded_from", type=InstantType(), help='Recorded since then: 2026-11-28, "2 h ago".'),
    click.option("--to", "recorded_to", type=InstantType(), help="Recorded up to then."),
)
as_of_option = click.option(
    "--as-of", type=MomentType(), help="As the registry was at this moment, also of a superseded generation."
)


def filter_options(command: Command) -> Command:
    """Add the options that select events; `EventFilter.of` makes a filter of them."""
    return reduce(lambda decorated, option: option(decorated), reversed(_FILTERS), command)


class EventFilter(NamedTuple):
    """Selects events. query: the filters of the store. types: a pattern that the types must match too."""

    query: ScanQuery
    types: re.Pattern[str] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> EventFilter:
        """Return the filter of the options of `filter_options`."""
        text = options.get("type_")
        pattern = _pattern(text) if text is not None and _ANY in text else None
        query = ScanQuery(
            after=(options.get("from_sequence") or 1) - 1,
            upto=options.get("to_sequence"),
            type=text if pattern is None else None,
            subject=options.get("subject"),
            source=options.get("source"),
            recorded_from=options.get("recorded_from"),
            recorded_to=options.get("recorded_to"),
            limit=PAGE,
        )
        return cls(query, pattern)

    def at(self, view: PastView) -> ScanQuery:
        """Return the query for the events of a moment."""
        upto = view.sequence if self.query.upto is None else min(view.sequence, self.query.upto)
        return msgspec.structs.replace(self.query, generation=view.generation, upto=upto)

    def select(self, events: list[bytes]) -> list[bytes]:
        """Return the events of a page whose types match."""
        types = self.types
        if types is None:
            return events
        return [value for value in events if types.fullmatch(indexed_of(value).type)]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split(_ANY))), re.DOTALL)


class EventPage(NamedTuple):
    """events: those that match, as stored. share: how much of the registry was read, 0 to 1."""

    events: list[bytes]
    share: float


def resolve(store: Store, moment: Moment | None) -> PastView:
    """Return a view of the moment, by which it is read. None: the current registry. Raises MomentUnavailable."""
    return retry_while_store_is_away(lambda: store.resolve_moment(moment or Moment()))


def event_pages(store: Store, view: PastView, wanted: EventFilter) -> Iterator[EventPage]:
    """Yield all pages of a moment. A restore meanwhile changes nothing. While the store is away, wait for it."""
    query = wanted.at(view)
    upto = query.upto or 0
    with store.lease_generation(view.generation) as lease:
        after: int | None = query.after
        while after is not None and after < upto:
            page = retry_while_store_is_away(partial(_scan, store, lease, query, after))
            after = page.next
            share = 1.0 if after is None else (after - query.after) / (upto - query.after)
            yield EventPage(wanted.select(page.events), share)


def _scan(store: Store, lease: Lease, query: ScanQuery, after: int) -> Page:
    lease.renew()
    return store.scan(msgspec.structs.replace(query, after=after))


T = TypeVar("T")


@contextmanager
def read_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yield the items. A thread makes the next ones while the caller works on one."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(2)
    ended = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        while not ended.is_set():
            with suppress(queue.Full):
                ready.put((item, error), True, _CHECK_SECONDS)
                return

    def run() -> None:
        try:
            for item in items:
                put(item)
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            put(None, error)

    def receive() -> Iterator[T]:
        while True:
            try:
                item, error = ready.get(True, _CHECK_SECONDS)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    thread = threading.Thread(target=run, name="read ahead", daemon=True)
    thread.start()
    try:
        yield receive()
    finally:
        ended.set()
        thread.join(_CHECK_SECONDS * 4)

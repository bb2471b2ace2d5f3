"""`flask events tail`: prints the newest events, and with `-f` each new one as soon as it is on disk."""

from __future__ import annotations

import select
import sys
from functools import partial
from typing import Any

import click
import msgspec
import orjson

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.events.lines import flush, json_line, one_line, write
from app.cli.events.pages import PAGE, EventFilter, filter_options
from app.cli.options import json_option, utc_option
from app.store_retry import retry_while_store_is_away
from eventvault.database.values import Head, Page, Resumption, ScanQuery
from eventvault.errors import GenerationSuperseded
from eventvault.exit_statuses import FAILED
from eventvault.store.ports.store import Store

SHOWN = 10
MOST = 100_000
_WAIT_SECONDS = 2.0
"""Seconds that one call waits for new events. After each call, the command ends if the reader of a pipe has gone."""
_FOLLOW_PAGE = 200


@click.command("tail")
@click.option(
    "-n", "--lines", "count", default=SHOWN, type=click.IntRange(0, MOST), help=f"How many. Default: {SHOWN}."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new event, until Ctrl-C.")
@filter_options
@utc_option
@json_option
def tail(*, count: int, follow: bool, utc: bool, as_json: bool, **filters: Any) -> None:
    """The newest events, oldest of them first. With --json whole events, one a line."""
    wanted = EventFilter.of(filters)
    with exits.reporting_errors(as_json=as_json):
        shown = _Writer(wanted, text.Times(utc=utc), as_json=as_json)
        store = current_store()
        newest, position = _newest(store, wanted, count)
        shown.events(newest)
        if follow:
            _follow(store, position, wanted, shown)


class _Writer:
    """Writes events, each at once."""

    def __init__(self, wanted: EventFilter, times: text.Times, *, as_json: bool) -> None:
        self._wanted = wanted
        self._times = times
        self._as_json = as_json

    def events(self, events: list[bytes]) -> None:
        for value in events:
            write((json_line(value) if self._as_json else one_line(value, self._times).encode()) + b"\n")
        flush()

    def restore(self, restored: Resumption) -> None:
        """Say that the events beyond the fork are not those that were shown."""
        if self._as_json:
            what = {
                "generation": restored.generation,
                "forkSequence": restored.fork_sequence,
                "kind": restored.kind,
            }
            write(orjson.dumps({"restore": what}) + b"\n")
        else:
            rule = text.sign("──", "--")
            write(f"{rule} went back to #{restored.fork_sequence or 0:,} {rule}\n".encode())
        flush()


def _newest(store: Store, wanted: EventFilter, count: int) -> tuple[list[bytes], Head]:
    """Return the newest events that match, oldest first, and the position after them."""
    query = msgspec.structs.replace(wanted.query, newest_first=True, limit=min(max(count, 1), PAGE))
    head = retry_while_store_is_away(lambda: store.scan(ScanQuery(newest_first=True, limit=1)))
    query = msgspec.structs.replace(query, generation=head.generation, upto=head.last_sequence)
    newest: list[bytes] = []
    while len(newest) < count:
        page = _scan(store, query)
        newest += wanted.select(page.events)
        if page.next is None:
            break
        query = msgspec.structs.replace(query, before=page.next)
    return newest[:count][::-1], Head(head.generation, head.last_sequence)


def _scan(store: Store, query: ScanQuery) -> Page:
    return retry_while_store_is_away(lambda: store.scan(query))


def _follow(store: Store, position: Head, wanted: EventFilter, shown: _Writer) -> None:
    seen = position
    while True:
        _require_reader()
        head = retry_while_store_is_away(partial(store.wait_for_events, seen, _WAIT_SECONDS))
        position = _read_on(store, position, head, wanted, shown)
        seen = head


def _read_on(store: Store, position: Head, head: Head, wanted: EventFilter, shown: _Writer) -> Head:
    """Show the events between the position and the head. Returns the position after them."""
    while position != head:
        query = msgspec.structs.replace(
            wanted.query, after=position.sequence, generation=position.generation, limit=_FOLLOW_PAGE
        )
        try:
            page = _scan(store, query)
        except GenerationSuperseded:
            page = None
        if page is None or page.generation != position.generation:
            restored = retry_while_store_is_away(partial(store.resume, position))
            if restored.fork_sequence is None:
                break
            shown.restore(restored)
            position = Head(restored.generation, restored.sequence)
            continue
        shown.events(wanted.select(page.events))
        position = Head(page.generation, page.last_sequence if page.next is None else page.next)
        if page.next is None:
            break
    return position


def _require_reader() -> None:
    """End the command silently if nobody reads standard output any more."""
    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):  # standard output is not a file
        return
    poll = select.poll()
    poll.register(handle, 0)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        sys.exit(FAILED)

"""`flask events count`: how many events there are, of which type, source or subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.events.pages import EventFilter, as_of_option, event_pages, filter_options, read_ahead, resolve
from app.cli.options import json_option, utc_option
from app.cli.program import in_words_of_program
from app.cli.watching import display
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.database.values import TypesQuery
from eventvault.events.event import RECORDED_TIME, indexed_of, sequence_of
from eventvault.operations.operation import Progress
from eventvault.past.values import PastView
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store

SHOWN = 50
WINDOW = 200_000
"""The index of types counts so many events in one call (`eventvault.database.event_types`)."""
MOST_TYPES = 1000
"""How many types one call names."""
MOST_GROUPS = 200_000
"""Groups that are counted one by one; what is beyond them is counted together."""
Show = Callable[[Progress], None]


class _Group(msgspec.Struct):
    """One type, source or subject. last, recorded: sequence and time of its newest event, as RFC 3339."""

    name: str | None
    events: int
    last: int
    recorded: str


class _Counted(NamedTuple):
    """total: all events that match. groups: the largest first. others: events in groups that are not counted apart."""

    total: int
    groups: list[_Group]
    others: int = 0


@click.command("count")
@click.option("--by", type=click.Choice(("type", "source", "subject")), help="Count each of these.")
@click.option("--all", "all_groups", is_flag=True, help=f"Show more than the {SHOWN} most frequent.")
@filter_options
@as_of_option
@utc_option
@json_option
def count(*, by: str | None, all_groups: bool, as_of: Moment | None, utc: bool, as_json: bool, **filters: Any) -> None:
    """How many events there are. Every event is counted, so of many it takes a while."""
    wanted = EventFilter.of(filters)
    with exits.reporting_errors(as_json=as_json):
        store = current_store()
        view = resolve(store, as_of)
        with display("Counting", quiet=as_json or not _takes_long(by, view, wanted)) as show:
            counted = _count(store, view, wanted, by, show)
    if by is None:
        exits.print_result({"events": counted.total}, lambda _: f"{counted.total:,}", as_json=as_json)
        return
    shown = counted.groups if all_groups or as_json else counted.groups[:SHOWN]
    done = {"events": counted.total, "groups": [_as_json(group, by) for group in shown], "others": counted.others}
    exits.print_result(
        done, lambda _: in_words_of_program(_describe(shown, counted, by, text.Times(utc=utc))), as_json=as_json
    )


def _count(store: Store, view: PastView, wanted: EventFilter, by: str | None, show: Show) -> _Counted:
    if by is None and _selects_all(wanted):
        return _Counted(view.sequence, [])
    if by == "type" and _selects_all(wanted) and (counted := _by_index(store, view, show)) is not None:
        return counted
    return _by_reading(store, view, wanted, by, show)


def _selects_all(wanted: EventFilter) -> bool:
    query = wanted.query
    selects = (query.type, query.subject, query.source, query.recorded_from, query.recorded_to, wanted.types)
    return all(each is None for each in selects)


def _takes_long(by: str | None, view: PastView, wanted: EventFilter) -> bool:
    return view.sequence > WINDOW and not (by is None and _selects_all(wanted))


def _by_index(store: Store, view: PastView, show: Show) -> _Counted | None:
    """Count by the index of types, without reading events. Returns None if there are more types than it names."""
    groups: dict[str | None, _Group] = {}
    with store.lease_generation(view.generation) as lease:
        for upto in range(view.sequence, 0, -WINDOW):
            lease.renew()
            after = max(0, upto - WINDOW)
            query = TypesQuery(after=after, upto=upto, generation=view.generation, limit=MOST_TYPES)
            counted = retry_while_store_is_away(lambda query=query: store.event_types(query))  # type: ignore[misc]
            if not counted.complete or len(counted.types) == MOST_TYPES:
                return None
            for each in counted.types:
                recorded = clock.format_microseconds(each.recorded)
                groups.setdefault(each.type, _Group(each.type, 0, each.last, recorded)).events += each.events
            show(Progress(1 - after / view.sequence, f"{view.sequence - after:,} events"))
    return _sorted(groups, 0)


def _by_reading(store: Store, view: PastView, wanted: EventFilter, by: str | None, show: Show) -> _Counted:
    groups: dict[str | None, _Group] = {}
    total = others = 0
    with read_ahead(event_pages(store, view, wanted)) as pages:
        for page in pages:
            total += len(page.events)
            others += 0 if by is None else _add(groups, page.events, by)
            show(Progress(page.share, f"{total:,} events"))
    return _Counted(total, []) if by is None else _sorted(groups, others)


def _add(groups: dict[str | None, _Group], events: list[bytes], by: str) -> int:
    """Count the events, which are newer than those that were counted. Returns how many are in no group."""
    others = 0
    for value in events:
        name = getattr(indexed_of(value), by)
        group = groups.get(name)
        if group is None:
            if len(groups) == MOST_GROUPS:
                others += 1
                continue
            group = groups[name] = _Group(name, 0, 0, "")
        group.events += 1
        group.last, group.recorded = sequence_of(value), value[RECORDED_TIME].decode()
    return others


def _sorted(groups: dict[str | None, _Group], others: int) -> _Counted:
    found = sorted(groups.values(), key=lambda group: (-group.events, group.name or ""))
    return _Counted(sum(group.events for group in found) + others, found, others)


def _as_json(group: _Group, by: str) -> dict[str, Any]:
    return {by: group.name, "events": group.events, "last": {"sequence": group.last, "recordedtime": group.recorded}}


def _describe(shown: list[_Group], counted: _Counted, by: str, times: text.Times) -> str:
    rows = [
        (group.name or "-", text.number(group.events), times.second(clock.parse(group.recorded))) for group in shown
    ]
    lines = [text.table((by.upper(), "EVENTS", f"LAST ({times.zone})"), rows, right={1})] if rows else ["No event."]
    if len(counted.groups) > len(shown):
        lines.append(f"{len(counted.groups) - len(shown):,} more: flask events count --by {by} --all")
    if counted.others:
        lines.append(f"{text.counted(counted.others, 'event')} more, of {by}s beyond the first {MOST_GROUPS:,}.")
    return "\n".join(lines)

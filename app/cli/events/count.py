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
"""Events that the index of types counts in one call (`eventvault.database.event_types`)."""
MOST_TYPES = 1000
"""Types that one call names."""
MOST_GROUPS = 200_000
"""Groups that are counted separately; the events of all further groups are counted together."""
Show = Callable[[Progress], None]


class _Group(msgspec.Struct):
    """One type, source or subject. last, recorded: sequence and time of its newest event, as RFC 3339."""

    name: str | None
    events: int
    last: int
    recorded: str


class _Counts(NamedTuple):
    """total: all events that match. groups: the largest first. others: events of groups that have no count."""

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
            counts = _count(store, view, wanted, by, show)
    if by is None:
        exits.print_result({"events": counts.total}, lambda _: f"{counts.total:,}", as_json=as_json)
        return
    shown = counts.groups if all_groups or as_json else counts.groups[:SHOWN]
    done = {"events": counts.total, "groups": [_as_json(group, by) for group in shown], "others": counts.others}
    exits.print_result(
        done, lambda _: in_words_of_program(_describe(shown, counts, by, text.Times(utc=utc))), as_json=as_json
    )


def _count(store: Store, view: PastView, wanted: EventFilter, by: str | None, show: Show) -> _Counts:
    if by is None and _selects_all(wanted):
        return _Counts(view.sequence, [])
    if by == "type" and _selects_all(wanted) and (counts := _count_by_index(store, view, show)) is not None:
        return counts
    return _count_by_reading(store, view, wanted, by, show)


def _selects_all(wanted: EventFilter) -> bool:
    query = wanted.query
    selects = (query.type, query.subject, query.source, query.recorded_from, query.recorded_to, wanted.types)
    return all(condition is None for condition in selects)


def _takes_long(by: str | None, view: PastView, wanted: EventFilter) -> bool:
    return view.sequence > WINDOW and not (by is None and _selects_all(wanted))


def _count_by_index(store: Store, view: PastView, show: Show) -> _Counts | None:
    """Count by the index of types, without reading events. Returns None if there are more types than it names."""
    groups: dict[str | None, _Group] = {}
    with store.lease_generation(view.generation) as lease:
        for upto in range(view.sequence, 0, -WINDOW):
            lease.renew()
            after = max(0, upto - WINDOW)
            query = TypesQuery(after=after, upto=upto, generation=view.generation, limit=MOST_TYPES)
            counts = retry_while_store_is_away(lambda query=query: store.event_types(query))  # type: ignore[misc]
            if not counts.complete or len(counts.types) == MOST_TYPES:
                return None
            for count in counts.types:
                recorded = clock.format_microseconds(count.recorded)
                groups.setdefault(count.type, _Group(count.type, 0, count.last, recorded)).events += count.events
            show(Progress(1 - after / view.sequence, f"{view.sequence - after:,} events"))
    return _sort(groups, 0)


def _count_by_reading(store: Store, view: PastView, wanted: EventFilter, by: str | None, show: Show) -> _Counts:
    groups: dict[str | None, _Group] = {}
    total = others = 0
    with read_ahead(event_pages(store, view, wanted)) as pages:
        for page in pages:
            total += len(page.events)
            others += 0 if by is None else _add(groups, page.events, by)
            show(Progress(page.share, f"{total:,} events"))
    return _Counts(total, []) if by is None else _sort(groups, others)


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


def _sort(groups: dict[str | None, _Group], others: int) -> _Counts:
    largest_first = sorted(groups.values(), key=lambda group: (-group.events, group.name or ""))
    return _Counts(sum(group.events for group in largest_first) + others, largest_first, others)


def _as_json(group: _Group, by: str) -> dict[str, Any]:
    return {by: group.name, "events": group.events, "last": {"sequence": group.last, "recordedtime": group.recorded}}


def _describe(shown: list[_Group], counts: _Counts, by: str, times: text.Times) -> str:
    rows = [
        (group.name or "-", text.number(group.events), times.second(clock.parse(group.recorded))) for group in shown
    ]
    lines = [text.table((by.upper(), "EVENTS", f"LAST ({times.zone})"), rows, right={1})] if rows else ["No event."]
    if len(counts.groups) > len(shown):
        lines.append(f"{len(counts.groups) - len(shown):,} more: flask events count --by {by} --all")
    if counts.others:
        lines.append(f"{text.counted(counts.others, 'event')} more, of {by}s beyond the first {MOST_GROUPS:,}.")
    return "\n".join(lines)

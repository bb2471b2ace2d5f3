"""`flask backup timeline`: how far back one can go, and to what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from app.cli import exits, text
from app.cli.backup.listing import describe_window
from app.cli.connection import current_store
from app.cli.moments import InstantType
from app.cli.options import json_option, utc_option
from app.error_codes import error_body
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.database.values import EventHistogram, HistogramQuery
from eventvault.errors import EventVaultError

if TYPE_CHECKING:
    from eventvault.store.ports.store import Store

_COLUMNS = 72
_DAY = 86_400_000_000
_BARS = " ▁▂▃▄▅▆▇█"
_HEIGHT = len(_BARS) - 1
_QUARTERS = 4


@click.command("timeline")
@click.option("--since", type=InstantType(), help='Draw the events since then: "7 d ago". Default: a day ago.')
@click.option("--type", "kind", help="Draw the events of this type.")
@utc_option
@json_option
def timeline(*, since: int | None, kind: str | None, utc: bool, as_json: bool) -> None:
    """How far back you can go, and to what: events, backups, generations and gaps."""
    with exits.reporting_errors(as_json=as_json):
        store = current_store()
        content = retry_while_store_is_away(store.timeline)
        counts = _count_events(store, content["window"], since, kind)
        at_risk = None if as_json else retry_while_store_is_away(store.status).get("journal")
    times = text.Times(utc=utc)
    exits.print_result(
        {**content, "histogram": _histogram_json(counts)},
        lambda _: _describe(content, counts, at_risk, times),
        as_json=as_json,
    )


def _count_events(
    store: Store, window: dict[str, Any] | None, since: int | None, kind: str | None
) -> EventHistogram | EventVaultError | None:
    """Return how many events were recorded when; None before the first one.

    If the database cannot be read, return the error: the command still shows what can be restored.
    """
    if window is None:
        return None
    if since is None:
        since = max(clock.now() - _DAY, clock.parse(window["oldest"]["time"]))
    query = HistogramQuery(buckets=_COLUMNS, recorded_from=since, recorded_to=max(since, clock.now()), type=kind)
    try:
        return store.histogram(query)
    except EventVaultError as error:
        return error


def _histogram_json(counts: EventHistogram | EventVaultError | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    if isinstance(counts, EventVaultError):
        return error_body(counts.code, counts.message, counts.hint)
    return {
        "from": clock.format_microseconds(counts.recorded_from),
        "to": clock.format_microseconds(counts.recorded_to),
        "counts": counts.counts,
        "exact": counts.exact,
    }


def _describe(
    content: dict[str, Any],
    counts: EventHistogram | EventVaultError | None,
    journal: dict[str, Any] | None,
    times: text.Times,
) -> str:
    lines = []
    if isinstance(counts, EventVaultError):
        lines = [f"The events cannot be counted now: {counts.message}", ""]
    elif counts is not None:
        lines = [*_draw(counts, content["archives"], times), ""]
    if content["generations"]:
        lines += [_generations(content["generations"], times), ""]
    gaps = [_describe_gap(gap) for gap in content["gaps"]] or ["No gaps."]
    risk = (journal or {}).get("secondsAtRisk")
    at_risk = [] if risk is None else [f"At risk now: {text.seconds(risk)}."]
    return "\n".join([*lines, *describe_window(content["window"], times), " ".join([*gaps, *at_risk])])


def _draw(histogram: EventHistogram, archives: Sequence[dict[str, Any]], times: text.Times) -> Iterator[str]:
    """Yield the line of the events, the line of the backups below it, and the times."""
    span = histogram.recorded_to - histogram.recorded_from
    most = max(histogram.counts)
    yield f"events, up to {most:,} in {text.seconds(span / _COLUMNS / 1e6)}"
    yield from _bars(histogram.counts, most)
    created = (clock.parse(archive["created"]) for archive in archives)
    columns = {
        min(_COLUMNS - 1, (instant - histogram.recorded_from) * _COLUMNS // max(span, 1))
        for instant in created
        if histogram.recorded_from <= instant <= histogram.recorded_to
    }
    dot, dash = text.sign("●", "o"), text.sign("─", "-")
    yield f"{''.join(dot if column in columns else dash for column in range(_COLUMNS))}  {dot} backup"
    instants = (histogram.recorded_from + span * quarter // _QUARTERS for quarter in range(_QUARTERS))
    yield "".join(_label(instant, span, times).ljust(_COLUMNS // _QUARTERS) for instant in instants) + "now"


def _bars(counts: Sequence[int], most: int) -> Iterator[str]:
    """Yield one line of bars, or eight where standard output takes no UTF-8."""
    heights = [-(-count * _HEIGHT // most) if most else 0 for count in counts]
    if text.sign(_BARS, ""):
        yield "".join(_BARS[height] for height in heights).rstrip()
        return
    for level in range(_HEIGHT, 0, -1):
        yield "".join("#" if height >= level else " " for height in heights).rstrip()


def _label(instant: int, span: int, times: text.Times) -> str:
    """Return the time, or the day where the line is longer than two days."""
    day, _, second = times.second(instant).partition(" ")
    if span > 2 * _DAY:
        return day
    return second if span < _DAY // 48 else second[:5]


def _generations(generations: Sequence[dict[str, Any]], times: text.Times) -> str:
    rows = [
        (
            generation["id"],
            times.second(clock.parse(generation["at"])),
            generation["reason"],
            text.number(generation["forkSequence"]),
            text.number(generation["lastSequence"]),
            "present" if generation["present"] else "",
        )
        for generation in generations
    ]
    return text.table(
        ("GENERATION", f"BEGAN ({times.zone})", "WHY", "FROM EVENT", "LAST EVENT", ""), rows, right={3, 4}
    )


def _describe_gap(gap: dict[str, Any]) -> str:
    return f"Gap: events #{gap['first']:,} to #{gap['last']:,} of generation {gap['generation']} are gone."

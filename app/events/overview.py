"""Answers with an overview of the events: how many were recorded when, and of which types."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.edge import current_store, store_for_long_call
from app.replies import reply, shared_reply
from eventvault import clock
from eventvault.database.values import HistogramQuery, TypeCount, TypesQuery
from eventvault.events import cursor
from eventvault.past.values import PastView
from eventvault.restore.values import Moment


def histogram_reply(parameters: dict[str, Any]) -> Response:
    """Return the answer. parameters: a validated query string. Raises MomentUnavailable."""
    return shared_reply(("histogram", *sorted(parameters.items())), lambda: _histogram(parameters), for_workers=False)


def _histogram(parameters: dict[str, Any]) -> dict[str, Any]:
    view = _resolve(parameters)
    end = parameters.get("recorded_to", parameters.get("as_of"))
    begin = parameters.get("recorded_from")
    query = HistogramQuery(
        buckets=parameters["buckets"],
        recorded_from=begin,
        recorded_to=end if end is None or begin is None else max(begin, end),
        type=parameters.get("type"),
        generation=None if view is None else view.generation,
        upto=None if view is None else view.sequence,
    )
    counted = current_store().histogram(query)
    return {
        "success": True,
        "from": clock.format_microseconds(counted.recorded_from),
        "to": clock.format_microseconds(counted.recorded_to),
        "bucketSeconds": (counted.recorded_to - counted.recorded_from) / query.buckets / 1e6,
        "counts": counted.counts,
        "before": counted.before,
        "exact": counted.exact,
        "generation": view.generation_id if view is not None else counted.generation,
    }


def _resolve(parameters: dict[str, Any]) -> PastView | None:
    """Return the view of the requested moment; None for the current registry."""
    if "as_of" not in parameters and "generation" not in parameters:
        return None
    with store_for_long_call() as store:
        return store.resolve_moment(Moment(instant=parameters.get("as_of"), generation=parameters.get("generation")))


def types_reply(parameters: dict[str, Any]) -> Response:
    """Return the answer to a validated query string. Raises GenerationSuperseded for a cursor beyond the fork."""
    after = cursor.decode(parameters["after"]) if "after" in parameters else cursor.Cursor(0)
    query = TypesQuery(
        after=after.sequence, upto=parameters.get("upto"), generation=after.generation, limit=parameters["limit"]
    )
    counts = current_store().event_types(query)
    body = {
        "success": True,
        "types": [_describe(count) for count in counts.types],
        "counted": counts.counted,
        "complete": counts.complete,
        "generation": counts.generation,
    }
    return reply(body)


def _describe(count: TypeCount) -> dict[str, Any]:
    last = {"sequence": count.last, "recordedtime": clock.format_microseconds(count.recorded)}
    return {"type": count.type, "events": count.events, "last": last}

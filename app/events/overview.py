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


def histogram_reply(asked: dict[str, Any]) -> Response:
    """asked: a validated query string. Raises MomentUnavailable."""
    return shared_reply(("histogram", *sorted(asked.items())), lambda: _histogram(asked), for_workers=False)


def _histogram(asked: dict[str, Any]) -> dict[str, Any]:
    view = _resolve(asked)
    end = asked.get("recorded_to", asked.get("as_of"))
    begin = asked.get("recorded_from")
    query = HistogramQuery(
        buckets=asked["buckets"],
        recorded_from=begin,
        recorded_to=end if end is None or begin is None else max(begin, end),
        type=asked.get("type"),
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


def _resolve(asked: dict[str, Any]) -> PastView | None:
    """Return the view of the moment that is asked for; None for the present."""
    if "as_of" not in asked and "generation" not in asked:
        return None
    with store_for_long_call() as store:
        return store.resolve_moment(Moment(instant=asked.get("as_of"), generation=asked.get("generation")))


def types_reply(asked: dict[str, Any]) -> Response:
    """asked: a validated query string. Raises GenerationSuperseded for a cursor beyond the fork."""
    after = cursor.decode(asked["after"]) if "after" in asked else cursor.Cursor(0)
    query = TypesQuery(after=after.sequence, upto=asked.get("upto"), generation=after.generation, limit=asked["limit"])
    counted = current_store().event_types(query)
    body = {
        "success": True,
        "types": [_describe(each) for each in counted.types],
        "counted": counted.counted,
        "complete": counted.complete,
        "generation": counted.generation,
    }
    return reply(body)


def _describe(counted: TypeCount) -> dict[str, Any]:
    last = {"sequence": counted.last, "recordedtime": clock.format_microseconds(counted.recorded)}
    return {"type": counted.type, "events": counted.events, "last": last}

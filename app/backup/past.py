"""Compares two moments, and copies or exports selected events of a past moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import orjson
from flask import Response

from app.backup.answers import copied_json
from app.edge import current_edge, current_store, store_for_long_call
from app.events.reading import export_reply, query_at
from app.idempotency import refuse_key
from app.replies import reply
from app.store_retry import retry_while_store_is_away
from app.streaming import ndjson_response
from eventvault.database.values import ScanQuery
from eventvault.past.moment_text import moment_of
from eventvault.past.values import DiffPage, DiffQuery
from eventvault.restore.values import Moment
from eventvault.store.ports.event_log import Lease
from eventvault.store.ports.store import Store


def diff_reply(one: str, other: str) -> Response:
    """Return the differences of two moments as NDJSON, with a summary as the last line.

    The first page is read before the answer starts, so that an error still has its own status.
    """
    before, after = moment_of(one, "from"), moment_of(other, "to")
    release = current_edge().transfers.acquire()
    try:
        store = current_store()
        query = DiffQuery(store.resolve_moment(before), store.resolve_moment(after))
        first = store.diff(query)
        return ndjson_response(_lines(store, query, first), release, "diff.ndjson")
    except BaseException:
        release()
        raise


def _lines(store: Store, query: DiffQuery, page: DiffPage) -> Iterator[bytes]:
    counts = [0, 0, 0]
    with (
        store.lease_generation(query.one.generation) as one,
        store.lease_generation(query.other.generation) as other,
    ):
        while True:
            if page.lines:
                yield b"\n".join(page.lines) + b"\n"
            page_counts = (page.only_one, page.only_other, page.different)
            counts = [count + more for count, more in zip(counts, page_counts, strict=True)]
            if page.next is None:
                break
            page = retry_while_store_is_away(
                partial(_read_next_page, store, (one, other), msgspec.structs.replace(query, at=page.next))
            )
    yield _summary(query, page.common, counts)


def _read_next_page(store: Store, leases: tuple[Lease, Lease], query: DiffQuery) -> DiffPage:
    for lease in leases:
        lease.renew()
    return store.diff(query)


def _summary(query: DiffQuery, common: int, counts: list[int]) -> bytes:
    summary = {
        "in": "summary",
        "from": {"generation": query.one.generation_id, "sequence": query.one.sequence},
        "to": {"generation": query.other.generation_id, "sequence": query.other.sequence},
        "commonSequence": common,
        "onlyInFrom": counts[0],
        "onlyInTo": counts[1],
        "different": counts[2],
    }
    return orjson.dumps(summary) + b"\n"


def selective_restore_reply(request: Mapping[str, Any]) -> Response:
    """Answer `POST /api/backup/restore` with `into`. request: as loaded by `SelectiveRestoreSchema`."""
    if request["into"] == "export":
        refuse_key()
    query = _query_of(request)
    if request["into"] == "export":
        return export_reply(query)
    with store_for_long_call() as store:
        copied = store.copy_events_to_present(query)
    return reply(copied_json(copied))


def _query_of(request: Mapping[str, Any]) -> ScanQuery:
    moment = Moment(
        instant=request.get("point_in_time"),
        sequence=request.get("sequence"),
        generation=request.get("generation"),
        archive=request.get("backupName"),
    )
    return query_at(moment, request.get("filter") or {})

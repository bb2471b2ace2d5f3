"""What two moments differ in, and a part of a moment taken into the present or out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import orjson
from flask import Response

from app.edge import edge, long_work, store
from app.events.reading import EXPORT_PAGE, export_reply
from app.replies import reply
from app.streaming import persistently, streamed
from eventvault.database.values import ScanQuery
from eventvault.past.moment_text import moment_of
from eventvault.past.values import DiffPage, DiffQuery
from eventvault.restore.values import Moment
from eventvault.store.interface import GenerationHold, Store


def diff_reply(one: str, other: str) -> Response:
    """NDJSON: what each of two moments has that the other has not, and a summary as the last line.

    The first page is read before the answer begins, so that what can go wrong still has a status of its own.
    """
    before, after = moment_of(one, "from"), moment_of(other, "to")
    release = edge().long_lived.take()
    try:
        asked = store()
        query = DiffQuery(asked.resolve_moment(before), asked.resolve_moment(after))
        first = asked.diff(query)
        return streamed(_lines(asked, query, first), release, "diff.ndjson")
    except BaseException:
        release()
        raise


def _lines(asked: Store, query: DiffQuery, page: DiffPage) -> Iterator[bytes]:
    counts = [0, 0, 0]
    with (
        asked.hold_generation(query.one.generation) as one,
        asked.hold_generation(query.other.generation) as other,
    ):
        while True:
            if page.lines:
                yield b"\n".join(page.lines) + b"\n"
            found = (page.only_one, page.only_other, page.different)
            counts = [count + more for count, more in zip(counts, found, strict=True)]
            if page.next is None:
                break
            page = persistently(partial(_next, asked, (one, other), msgspec.structs.replace(query, at=page.next)))
    yield _summary(query, page.common, counts)


def _next(asked: Store, holds: tuple[GenerationHold, GenerationHold], query: DiffQuery) -> DiffPage:
    for hold in holds:
        hold.renew()
    return asked.diff(query)


def _summary(query: DiffQuery, common: int, counts: list[int]) -> bytes:
    said = {
        "in": "summary",
        "from": {"generation": query.one.generation_id, "sequence": query.one.sequence},
        "to": {"generation": query.other.generation_id, "sequence": query.other.sequence},
        "commonSequence": common,
        "onlyInFrom": counts[0],
        "onlyInTo": counts[1],
        "different": counts[2],
    }
    return orjson.dumps(said) + b"\n"


def part_reply(asked: Mapping[str, Any]) -> Response:
    """`POST /api/backup/restore` with `into`; asked: valid by `PartSchema`."""
    query = _part_query(asked)
    if asked["into"] == "export":
        return export_reply(query)
    with long_work() as vault:
        taken = vault.copy_events_to_present(query)
    return reply(
        {
            "success": True,
            "message": f"{taken.appended} events of the past were appended; {taken.already_there} were there already.",
            "into": "present",
            "matched": taken.matched,
            "appended": taken.appended,
            "alreadyThere": taken.already_there,
            "renamed": taken.renamed,
            "lastSequence": taken.last_sequence,
        }
    )


def _part_query(asked: Mapping[str, Any]) -> ScanQuery:
    moment = Moment(
        instant=asked.get("point_in_time"),
        sequence=asked.get("sequence"),
        generation=asked.get("generation"),
        archive=asked.get("backupName"),
    )
    with long_work() as vault:
        view = vault.resolve_moment(moment)
    wanted = asked.get("filter") or {}
    return ScanQuery(
        generation=view.generation,
        after=wanted.get("fromSequence", 1) - 1,
        upto=min(view.sequence, wanted.get("toSequence", view.sequence)),
        limit=EXPORT_PAGE,
        type=wanted.get("type"),
        subject=wanted.get("subject"),
        source=wanted.get("source"),
        recorded_from=wanted.get("recorded_from"),
        recorded_to=wanted.get("recorded_to"),
    )

"""Makes drafts of the records of an import, and derives an id for each event without one.

The id contains the import's name, the record's number and the digest of its text: the same file gives the same ids, two
equal lines are two events, and a changed line is another event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from eventvault import clock
from eventvault.errors import EventVaultError, InvalidInput
from eventvault.events import ordinary, schema, sent
from eventvault.events.event import EventDraft
from eventvault.events.sent import AnyEvent
from eventvault.imports.record import ImportRecord
from eventvault.imports.rejects import Rejected, rejected

_DIGEST = 32


class Drafts(NamedTuple):
    """drafts: ready to be appended. records: of each draft. rejected: the records without a draft."""

    drafts: list[EventDraft]
    records: list[ImportRecord]
    rejected: list[Rejected]


def drafts_of(records: Sequence[ImportRecord], name: str) -> Drafts:
    """Return the drafts of records. name: of the import."""
    accepted, events, refused = list[ImportRecord](), list[AnyEvent](), list[Rejected]()
    for record, event in zip(records, ordinary.read_many([record.json for record in records]), strict=True):
        try:
            if record.problem is not None:
                raise record.problem
            events.append(event or sent.read_one(record.json, "the record"))
            accepted.append(record)
        except EventVaultError as error:
            refused.append(rejected(record, error))
    if sent.problems_of(events):
        accepted, events = _valid(accepted, events, refused)
    instant = clock.now()
    drafts = [_draft(event, record, name, instant) for event, record in zip(events, accepted, strict=True)]
    return Drafts(drafts, accepted, refused)


def _valid(
    records: Sequence[ImportRecord], events: Sequence[AnyEvent], refused: list[Rejected]
) -> tuple[list[ImportRecord], list[AnyEvent]]:
    """Return the valid events with their records, and add the others to `refused`."""
    valid = []
    for record, event in zip(records, events, strict=True):
        problems = [event.problem] if event.problem is not None else schema.validate(event.attributes)
        if problems:
            refused.append(Rejected(record, InvalidInput.code, str(problems[0])))
        else:
            valid.append((record, event))
    refused.sort(key=lambda reject: reject.record.number)
    return [record for record, _ in valid], [event for _, event in valid]


def _draft(event: AnyEvent, record: ImportRecord, name: str, instant: int) -> EventDraft:
    if event.sent_id is None:
        event_id = f"{name}:{record.number}:{hashlib.sha256(record.json).hexdigest()[:_DIGEST]}"
        event = event.with_id(event_id, first=True)
    return event.draft(instant)

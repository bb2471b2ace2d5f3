"""Makes drafts of the records of an import, and derives an id for each event that has none.

The id contains the import's name, the record's number and the digest of its text: the same file gives the same ids, two
equal lines are two events, and a line that was changed is another event.
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
    """drafts: ready to be appended. records: of each draft. rejected: the other ones."""

    drafts: list[EventDraft]
    records: list[ImportRecord]
    rejected: list[Rejected]


def drafts_of(records: Sequence[ImportRecord], name: str) -> Drafts:
    """Return what the records hold. name: of the import."""
    read, events, refused = list[ImportRecord](), list[AnyEvent](), list[Rejected]()
    for record, found in zip(records, ordinary.read_many([record.json for record in records]), strict=True):
        try:
            if record.problem is not None:
                raise record.problem
            events.append(found or sent.read_one(record.json, "the record"))
            read.append(record)
        except EventVaultError as error:
            refused.append(rejected(record, error))
    if sent.problems_of(events):
        read, events = _valid(read, events, refused)
    instant = clock.now()
    drafts = [_draft(each, record, name, instant) for each, record in zip(events, read, strict=True)]
    return Drafts(drafts, read, refused)


def _valid(
    records: Sequence[ImportRecord], events: Sequence[AnyEvent], refused: list[Rejected]
) -> tuple[list[ImportRecord], list[AnyEvent]]:
    """Return the valid events with their records, and add the others to `refused`."""
    valid = []
    for record, each in zip(records, events, strict=True):
        problems = [each.problem] if each.problem is not None else schema.validate(each.attributes)
        if problems:
            refused.append(Rejected(record, InvalidInput.code, str(problems[0])))
        else:
            valid.append((record, each))
    refused.sort(key=lambda each: each.record.number)
    return [record for record, _ in valid], [each for _, each in valid]


def _draft(each: AnyEvent, record: ImportRecord, name: str, instant: int) -> EventDraft:
    if each.sent_id is None:
        event_id = f"{name}:{record.number}:{hashlib.sha256(record.json).hexdigest()[:_DIGEST]}"
        each = each.with_id(event_id, first=True)
    return each.draft(instant)

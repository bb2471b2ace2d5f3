"""Makes drafts of the records of an import, and derives an id for each event that has none.

The id contains the import's name, the record's number and the digest of its text: the same file gives the same ids, two
equal lines are two events, and a line that was changed is another event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import orjson

from eventvault import clock
from eventvault.errors import EventVaultError, InvalidInput
from eventvault.events import event, schema, sent
from eventvault.events.event import EventDraft
from eventvault.events.sent import SentEvent
from eventvault.imports.record import Record
from eventvault.imports.rejects import Rejected, rejected

_DIGEST = 32


class Drafts(NamedTuple):
    """drafts: ready to be appended. records: of each draft. rejected: the other ones."""

    drafts: list[EventDraft]
    records: list[Record]
    rejected: list[Rejected]


def drafts_of(records: Sequence[Record], name: str) -> Drafts:
    """Return what the records hold. name: of the import."""
    read, events, refused = [], [], []
    for record in records:
        try:
            if record.problem is not None:
                raise record.problem
            events.append(sent.read_one(record.json, "the record"))
            read.append(record)
        except EventVaultError as error:
            refused.append(rejected(record, error))
    if sent.problems_of(events):
        read, events = _valid(read, events, refused)
    instant = clock.now()
    drafts = [_draft(each, record, name, instant) for each, record in zip(events, read, strict=True)]
    return Drafts(drafts, read, refused)


def _valid(
    records: Sequence[Record], events: Sequence[SentEvent], refused: list[Rejected]
) -> tuple[list[Record], list[SentEvent]]:
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


def _draft(each: SentEvent, record: Record, name: str, instant: int) -> EventDraft:
    if each.attributes.get("id") is None:
        event_id = f"{name}:{record.number}:{hashlib.sha256(record.json).hexdigest()[:_DIGEST]}"
        each = sent.with_id(each, event_id) if "id" in each.attributes else _with_first(each, event_id)
    return event.draft(each.attributes, instant, each.text)


def _with_first(each: SentEvent, event_id: str) -> SentEvent:
    """Return the event with an id, of an event that has no such member."""
    text = b'{"id":' + orjson.dumps(event_id) + b"," + each.text[1:]
    return msgspec.structs.replace(each, attributes={**each.attributes, "id": event_id}, text=text)

"""Selective restore: appends events of the past to the registry as new events, and never overwrites any.

An event keeps its identity if that is free. If another event has that identity, the copy gets an id that is derived
from its content, and the old id as `originalid`. So a repeated copy appends nothing twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import msgspec
import orjson

from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import EventNotFound, RestoreRunning
from eventvault.events.event import (
    LONGEST_TEXT,
    REGISTRY_ATTRIBUTES,
    EventDraft,
    indexed_of,
    raw_attributes,
    same_content,
    without_filled_time,
)
from eventvault.operations.operation import Operation
from eventvault.past.values import CopyResult

PAGE = 1000
_ENDING = re.compile(r"~[0-9a-f]{16}(-[0-9]+)?\Z")
"""The suffix that `renamed_draft` adds to an id."""


class Present(Protocol):
    """The part of the store that events are copied into."""

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult: ...
    def get(self, event_id: str, source: str | None = None) -> bytes: ...
    def scan(self, query: ScanQuery) -> Page: ...


def copy_events_to_present(query: ScanQuery, store: Present, operation: Operation) -> CopyResult:
    """Append every event that `query` matches, in order. Every page is durable, so a copy that failed can be repeated.

    Raises RestoreRunning if a restore began another generation meanwhile, and OperationCancelled; appended events stay.
    """
    operation.step("copy")
    matched = appended = renamed = 0
    present = store.scan(ScanQuery(limit=1))
    generation, last = present.generation, present.last_sequence
    following: int | None = query.after
    while following is not None:
        operation.check_cancelled()
        page = store.scan(msgspec.structs.replace(query, after=following, limit=PAGE))
        if store.scan(ScanQuery(limit=1)).generation != generation:
            raise RestoreRunning(
                f"a restore came in between, after {matched} events", hint="check the present events and ask again"
            )
        new, changed, last = _append([draft_of(value) for value in page.events], store, last)
        matched, appended, renamed = matched + len(page.events), appended + new, renamed + changed
        following = page.next
        _report(operation, query, page)
    operation.decided()
    return CopyResult(matched, appended, matched - appended, renamed, last)


def _report(operation: Operation, query: ScanQuery, page: Page) -> None:
    """Report the progress. The total bytes are estimated from the position of the page."""
    size = sum(map(len, page.events))
    done = operation.progress().bytes_done + size
    share = 1.0 if page.next is None or query.upto is None else (page.next - query.after) / (query.upto - query.after)
    operation.advance(size, bytes_total=round(done / max(share, 1e-9)))


def _append(drafts: Sequence[EventDraft], store: Present, last: int) -> tuple[int, int, int]:
    """Append drafts. Returns how many were appended, how many of these with another id, and the last sequence then."""
    appended = renamed = 0
    while drafts:
        to_append = [_with_free_identity(draft, store) for draft in drafts]
        answer = store.append(to_append)
        last, clashing = answer.last_sequence, []
        for draft, name, result in zip(drafts, to_append, answer.results, strict=True):
            appended += not result.duplicate
            renamed += not result.duplicate and name.id != draft.id
            if result.differs:  # another event of that identity was posted since it was checked
                clashing.append(draft)
        drafts = clashing
    return appended, renamed, last


def _with_free_identity(draft: EventDraft, store: Present) -> EventDraft:
    """Return the draft with its own identity, or the first derived one, that no event of other content has."""
    candidate, attempt = draft, 0
    while True:
        try:
            stored = store.get(candidate.id, candidate.source)
        except EventNotFound:
            return candidate
        if same_content(stored, candidate.body):
            return candidate
        attempt += 1
        candidate = renamed_draft(draft, attempt)


def draft_of(value: bytes) -> EventDraft:
    """Return a stored event as a draft: all of its attributes except those of the registry.

    A `time` that was filled in is marked as such, so that the append finds the same differences as `same_content` does.
    """
    body = value[: value.rindex(b',"sequence":')] + b"}"
    timed = "time" in raw_attributes(value) and without_filled_time(body) == body
    indexed = indexed_of(value)
    return EventDraft(indexed.source, indexed.id, indexed.type, indexed.subject, body, () if timed else ("time",))


def renamed_draft(draft: EventDraft, attempt: int) -> EventDraft:
    """Return the draft with an id derived from its content. attempt: 1, or more if that id is in use too."""
    content = (draft.source.encode(), draft.id.encode(), without_filled_time(draft.body))
    digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    event_id = _with_ending(draft.id, f"~{digest}" + (f"-{attempt}" if attempt > 1 else ""))
    attributes = raw_attributes(draft.body)
    original = attributes.get("originalid")
    if not _was_renamed(draft.id, original):
        if original is not None and bytes(original) != b"null":
            attributes[_free_name(attributes)] = original
        attributes["originalid"] = _text(draft.id)
    attributes["id"] = _text(event_id)
    body = msgspec.json.encode({name: value for name, value in attributes.items() if name not in REGISTRY_ATTRIBUTES})
    return msgspec.structs.replace(draft, id=event_id, body=body)


def _was_renamed(event_id: str, original: msgspec.Raw | None) -> bool:
    """Return whether the event got its id from `renamed_draft`, so that `originalid` is its first id."""
    first, ending = None if original is None else orjson.loads(bytes(original)), _ENDING.search(event_id)
    return isinstance(first, str) and ending is not None and event_id == _with_ending(first, ending[0])


def _text(value: str) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(value))


def _with_ending(event_id: str, ending: str) -> str:
    """Return the id, shortened if it would become too long, with the ending."""
    return event_id[: LONGEST_TEXT - len(ending)] + ending


def _free_name(attributes: Mapping[str, Any]) -> str:
    """Return a free name for an `originalid` that the sender set: `originalid2`, `originalid3`, …."""
    return next(name for number in count(2) if (name := f"originalid{number}") not in attributes)

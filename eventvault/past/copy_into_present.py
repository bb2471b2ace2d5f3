"""Part of a past, taken into the present as new events: appended like any others, never over what is there.

An event keeps its identity where that is free. Where the present has another event of that identity, it gets an id that
follows from its content, and keeps the one it had as `originalid`: so whatever is taken a second time is there already.
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
from eventvault.events.event import LONGEST_TEXT, OURS, EventDraft, members, same, without_filled_time
from eventvault.past.values import CopyResult

PAGE = 1000
_ENDING = re.compile(r"~[0-9a-f]{16}(-[0-9]+)?\Z")
"""What `renamed_draft` puts behind an id."""


class Present(Protocol):
    """The store that the events are taken into."""

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult: ...
    def get(self, event_id: str, source: str | None = None) -> bytes: ...
    def scan(self, query: ScanQuery) -> Page: ...


def copy_events_to_present(query: ScanQuery, store: Present) -> CopyResult:
    """Append every event that `query` finds, in order. What breaks off is simply done again: each page is durable.

    Raises RestoreRunning where a restore changed the present meanwhile.
    """
    matched = appended = renamed = 0
    present = store.scan(ScanQuery(limit=1))
    generation, last = present.generation, present.last_sequence
    following: int | None = query.after
    while following is not None:
        page = store.scan(msgspec.structs.replace(query, after=following, limit=PAGE))
        if store.scan(ScanQuery(limit=1)).generation != generation:
            raise RestoreRunning(
                f"a restore came in between, after {matched} events", hint="look at what is there and ask again"
            )
        new, changed, last = _append([draft_of(value) for value in page.events], store, last)
        matched, appended, renamed = matched + len(page.events), appended + new, renamed + changed
        following = page.next
    return CopyResult(matched, appended, matched - appended, renamed, last)


def _append(drafts: Sequence[EventDraft], store: Present, last: int) -> tuple[int, int, int]:
    """How many were appended, how many of them with another id, and the last sequence after it."""
    appended = renamed = 0
    while drafts:
        named = [_free(draft, store) for draft in drafts]
        answer = store.append(named)
        last, clashing = answer.last_sequence, []
        for draft, name, result in zip(drafts, named, answer.results, strict=True):
            appended += not result.duplicate
            renamed += not result.duplicate and name.id != draft.id
            if result.differs:  # somebody posted another event of that identity since it was looked at
                clashing.append(draft)
        drafts = clashing
    return appended, renamed, last


def _free(draft: EventDraft, store: Present) -> EventDraft:
    """The draft under the first of its identities that no other event has."""
    candidate, attempt = draft, 0
    while True:
        try:
            there = store.get(candidate.id, candidate.source)
        except EventNotFound:
            return candidate
        if same(there, candidate.body):
            return candidate
        attempt += 1
        candidate = renamed_draft(draft, attempt)


def draft_of(value: bytes) -> EventDraft:
    """An event as it is kept, as one that is to be appended: all of it but what the registry gave it.

    A `time` that was filled in stays, and is said to be: the append must find the same to differ as `same` does.
    """
    attributes = orjson.loads(value)
    body = value[: value.rindex(b',"sequence":')] + b"}"
    timed = "time" in attributes and without_filled_time(body) == body
    return EventDraft(
        attributes["source"],
        attributes["id"],
        attributes["type"],
        attributes.get("subject"),
        body,
        () if timed else ("time",),
    )


def renamed_draft(draft: EventDraft, attempt: int) -> EventDraft:
    """The draft with an id that follows from its content. attempt: from 1, should even that be taken."""
    content = (draft.source.encode(), draft.id.encode(), without_filled_time(draft.body))
    digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    event_id = _named(draft.id, f"~{digest}" + (f"-{attempt}" if attempt > 1 else ""))
    attributes = members(draft.body)
    theirs = attributes.get("originalid")
    if not _was_renamed(draft.id, theirs):
        if theirs is not None and bytes(theirs) != b"null":
            attributes[_free_name(attributes)] = theirs
        attributes["originalid"] = _text(draft.id)
    attributes["id"] = _text(event_id)
    body = msgspec.json.encode({name: value for name, value in attributes.items() if name not in OURS})
    return msgspec.structs.replace(draft, id=event_id, body=body)


def _was_renamed(event_id: str, original: msgspec.Raw | None) -> bool:
    """Whether an event has its id from here already, and so `originalid` is the one that it had first."""
    first, ending = None if original is None else orjson.loads(bytes(original)), _ENDING.search(event_id)
    return isinstance(first, str) and ending is not None and event_id == _named(first, ending[0])


def _text(value: str) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(value))


def _named(event_id: str, ending: str) -> str:
    """An id and what is put behind it, cut to the length that an id may have. The ending is of the whole id."""
    return event_id[: LONGEST_TEXT - len(ending)] + ending


def _free_name(attributes: Mapping[str, Any]) -> str:
    """What an `originalid` that the sender gave is called instead: `originalid2`, `originalid3`, …."""
    return next(name for number in count(2) if (name := f"originalid{number}") not in attributes)

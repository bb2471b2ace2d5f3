"""`flask events get` and `flask events post`: prints an event, or stores one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_connection, current_store
from app.cli.events.lines import flush, json_line, write
from app.cli.moments import InstantType
from app.cli.options import json_option
from app.events import answers
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.database.values import MOST_CANDIDATES, AppendResult
from eventvault.errors import EventDiffers, EventNotFound, InvalidInput, OutcomeUnknown, TooLarge, WriteFailed
from eventvault.events import cloudevents_http, event, sent
from eventvault.events.event import EventDraft
from eventvault.events.sent import AnyEvent, SentEvent
from eventvault.printable import printable
from eventvault.restore.values import Moment

if TYPE_CHECKING:
    from eventvault.store.ports.store import Store

STANDARD_INPUT = "-"
_JSON = "application/json"


@click.command("get")
@click.argument("event_id", metavar="ID")
@click.option("--source", help="Of this source, if events of several have the id.")
@click.option("--as-of", type=InstantType(), help='As it was then: 2026-11-28T20:00:00Z, "2 h ago".')
@json_option
def get(*, event_id: str, source: str | None, as_of: int | None, as_json: bool) -> None:
    """One event, byte for byte as it is stored. The beginning of its ID is enough if no other ID has it."""
    with exits.reporting_errors(as_json=as_json):
        store = current_store()
        if as_of is not None:
            retry_while_store_is_away(lambda: store.resolve_moment(Moment(instant=as_of)))  # raises if there is none
        value = json_line(_event_of(store, event_id, source, as_of))
        write((b'{"success":true,"event":%s}' % value if as_json else value) + b"\n")
        flush()


def _event_of(store: Store, typed: str, source: str | None, as_of: int | None) -> bytes:
    """Return the event of that id, or the only one whose id begins with `typed`."""
    try:
        return retry_while_store_is_away(lambda: store.get(typed, source, as_of))
    except EventNotFound as error:
        candidates = error.details.get("candidates") or []
        if not candidates:
            raise
    if len(candidates) == 1:
        return retry_while_store_is_away(lambda: store.get(candidates[0], source, as_of))
    named = ", ".join(candidates[: MOST_CANDIDATES - 1]) + (", …" if len(candidates) == MOST_CANDIDATES else "")
    raise InvalidInput(f"the ids of several events begin with {typed!r}: {named}", hint="type more of the id")


@click.command("post")
@click.argument("type_", metavar="TYPE")
@click.option("--data", help="JSON; @FILE reads a file, and - standard input.")
@click.option("--content-type", default=_JSON, help=f"Of the data. Default: {_JSON}.")
@click.option("--subject", help="What the event is about.")
@click.option("--source", help=f"Where it happened. Default: {event.DEFAULT_SOURCE}.")
@click.option("--id", "event_id", help="Its id; an event of the same source and id is stored once. Default: a new one.")
@click.option("--time", help="When it happened, as RFC 3339. Default: now.")
@json_option
def post(*, type_: str, data: str | None, content_type: str, event_id: str | None, as_json: bool, **more: Any) -> None:
    """Store one event of TYPE; with - for TYPE, whole events from standard input: one, an array or NDJSON.

    When the command ends, they are on disk. All of them are stored, or none.
    """
    if type_ == STANDARD_INPUT and (data is not None or event_id is not None or any(more.values())):
        raise click.UsageError("with - the events come whole from standard input, so nothing else describes them")
    with exits.reporting_errors(as_json=as_json):
        if type_ == STANDARD_INPUT:
            events: Sequence[AnyEvent] = cloudevents_http.parse(_read_standard_input(), None, {}).events
        else:
            attributes = {"type": type_, "id": event_id, **more}
            wanted = {name: value for name, value in attributes.items() if value is not None}
            events = [_event(wanted, data, content_type)]
        drafts = _drafts(events)
        appended = _append(drafts)
        ids = [draft.id for draft in drafts]
        done = msgspec.to_builtins(answers.describe_appended(ids, appended.results, appended.last_sequence))
    exits.print_result(done, _describe, as_json=as_json)
    if any(result.differs for result in appended.results):
        raise SystemExit(exits.exit_status_of(EventDiffers.code))


def _append(drafts: list[EventDraft]) -> AppendResult:
    """Append the events. If it is unknown whether they are stored, the error has their ids, to send them again."""
    try:
        return retry_while_store_is_away(lambda: current_store().append(drafts))
    except (OutcomeUnknown, WriteFailed) as error:
        error.details["ids"] = [draft.id for draft in drafts]
        raise


def _event(attributes: dict[str, Any], data: str | None, content_type: str) -> SentEvent:
    """Return the event. Raises MalformedInput or InvalidInput for data that are not what their type says."""
    if data is None:
        return sent.from_attributes(attributes)
    body = _data(data)
    if content_type != _JSON:
        attributes["datacontenttype"] = content_type
    return cloudevents_http.with_data(attributes, body, content_type)


def _data(written: str) -> bytes:
    if written == STANDARD_INPUT:
        return _read_standard_input()
    if not written.startswith("@"):
        return written.encode(errors="surrogateescape")
    try:
        with Path(written[1:]).open("rb") as file:
            return _read_limited(file.read)
    except OSError as error:
        raise InvalidInput(f"{written[1:]} cannot be read: {error.strerror}", hint="name a file after the @") from None


def _read_standard_input() -> bytes:
    return _read_limited(sys.stdin.buffer.read)


def _read_limited(read: Callable[[int], bytes]) -> bytes:
    limit = current_connection().max_body_bytes
    content = read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"the input is larger than {limit:,} bytes", hint="flask events import takes any size")
    return content


def _drafts(events: Sequence[AnyEvent]) -> list[EventDraft]:
    """Return the events as drafts. Raises InvalidInput if one is not valid; then none is stored."""
    for index, problems in sent.problems_of(events).items():
        place = f"event {index} of {len(events)}" if len(events) > 1 else "the event"
        raise InvalidInput(f"{place} is not valid: {problems[0]}", hint="correct it; nothing was stored")
    return sent.drafts_of(events, clock.now())


def _describe(done: dict[str, Any]) -> str:
    results = done["results"]
    if not results:
        return "No event."
    differing = [result for result in results if result.get("differs")]
    lines = [_describe_one(result) for result in results] if len(results) == 1 else [_describe_several(done)]
    for result in differing[:10]:
        lines.append(f"{printable(result['id'])} differs from #{result['sequence']:,}, which stays.")
    return "\n".join(lines)


def _describe_one(result: dict[str, Any]) -> str:
    return f"#{result['sequence']:,} {'was there already' if result['duplicate'] else 'on disk'}"


def _describe_several(done: dict[str, Any]) -> str:
    return f"{text.counted(done['accepted'], 'event')} on disk, {done['duplicates']:,} there already."

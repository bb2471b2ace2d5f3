"""`flask kafka quarantine`: messages from Kafka that are not events, and decisions about them.

Messages that a filter chooses are listed first, and exactly these are dropped or replayed.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.group import Group
from app.cli.options import ask, json_option, require_answer, utc_option, yes_option
from app.cli.program import in_words_of_program
from app.kafka.answers import message_json, page_json, replayed_json
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.errors import QuarantinedNotFound
from eventvault.exit_statuses import INVALID, PARTLY
from eventvault.kafka.values import Mode, Quarantined, QuarantinedMessage, QuarantineFilter, QuarantinePage, Replayed
from eventvault.printable import printable

group = Group("quarantine", help="Messages that are not events.")

SHOWN = 50
_PAGE = 1_000
_SHOWN_BYTES = 4_000
_MODES = (*get_args(Mode), "cloudevents")
"""`cloudevents` is another name of `structured`."""

_topic_option = click.option("--topic", help="Only those of this topic.")
_partition_option = click.option("--partition", type=click.IntRange(0), help="Only those of this partition.")
_reason_option = click.option("--reason", help="Only those whose reason has this text in it.")
_all_option = click.option("--all", "everything", is_flag=True, help="All of them.")


def _decision_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a decision about messages: which ones, and how it is asked for and shown."""
    which = (_all_option, _topic_option, _partition_option, _reason_option)
    for option in reversed((*which, yes_option, utc_option, json_option)):
        command = option(command)
    return command


@group.command("list")
@_topic_option
@_partition_option
@_reason_option
@click.option("--limit", default=SHOWN, type=click.IntRange(1, _PAGE), help=f"How many. Default: {SHOWN}.")
@click.option("--before", help="The `next` of the page before, which --json shows.")
@utc_option
@json_option
def list_quarantine(
    *,
    topic: str | None,
    partition: int | None,
    reason: str | None,
    limit: int,
    before: str | None,
    utc: bool,
    as_json: bool,
) -> None:
    """Show the messages from Kafka that are not events, newest first, and why."""
    wanted, times = QuarantineFilter(topic=topic, partition=partition, reason=reason), text.Times(utc=utc)
    with exits.reporting_errors(as_json=as_json):
        page = retry_while_store_is_away(lambda: current_store().list_quarantine(wanted, limit, before))
    exits.print_result(page_json(page), lambda _: in_words_of_program(_describe(page, times)), as_json=as_json)


@group.command("show")
@click.argument("message_id", metavar="TOPIC/N@OFFSET")
@utc_option
@json_option
def show(*, message_id: str, utc: bool, as_json: bool) -> None:
    """Show one message with its key, its headers and its value."""
    with exits.reporting_errors(as_json=as_json):
        message = retry_while_store_is_away(lambda: current_store().quarantined_message(message_id))
    times = text.Times(utc=utc)
    exits.print_result(
        {"message": message_json(message)}, lambda _: "\n".join(_describe_one(message, times)), as_json=as_json
    )


@group.command("replay")
@click.argument("ids", nargs=-1, metavar="[TOPIC/N@OFFSET]...")
@click.option("--as", "mode", type=click.Choice(_MODES), help="How to read them; default: as their headers say.")
@_decision_options
def replay(*, ids: tuple[str, ...], mode: str | None, yes: bool, utc: bool, as_json: bool, **chosen: Any) -> None:
    """Read messages again and append the events in them. Exit: 8 if some stay, 5 if all do."""
    wanted = _require_choice(ids, **chosen)
    names = list(ids) or _choose(wanted, "Replay", text.Times(utc=utc), yes=yes, as_json=as_json)
    read_as: Any = "structured" if mode == "cloudevents" else mode
    with exits.reporting_errors(as_json=as_json):
        if len(ids) > _PAGE:
            _check_all(ids)
        results = list(_replay(names, read_as))
    exits.print_result(replayed_json(results), lambda _: _describe_replayed(results), as_json=as_json)
    failed = sum(result.outcome in ("refused", "unknown") for result in results)
    if failed:
        raise SystemExit(INVALID if failed == len(results) else PARTLY)


@group.command("drop")
@click.argument("ids", nargs=-1, metavar="[TOPIC/N@OFFSET]...")
@_decision_options
def drop(*, ids: tuple[str, ...], yes: bool, utc: bool, as_json: bool, **chosen: Any) -> None:
    """Remove messages for good, or none if one of several ids is not there. The topic of dead letters stays."""
    wanted = _require_choice(ids, **chosen)
    require_answer(yes=yes, as_json=as_json)
    times = text.Times(utc=utc)
    if ids:
        with exits.reporting_errors(as_json=as_json):
            _check_all(ids)
        if not yes:
            ask(f"Drop {text.counted(len(ids), 'message')} for good?")
        exits.run_and_print(lambda: {"dropped": sum(map(_drop_one, ids))}, _describe_dropped, as_json=as_json)
        return
    seen = _choose(wanted, "Drop", times, yes=yes, as_json=as_json)
    exits.run_and_print(lambda: {"dropped": _drop_seen(wanted, seen)}, _describe_dropped, as_json=as_json)


def _check_all(ids: Sequence[str]) -> None:
    """Raise QuarantinedNotFound for the first message that is not in the quarantine, before anything is changed."""
    for message_id in ids:
        current_store().quarantined_message(message_id)


def _replay(names: Sequence[str], mode: Mode | None) -> Iterator[Replayed]:
    """Replay page by page. A message that has left meanwhile is `unknown`. Raises QuarantinedNotFound if all have."""
    for first in range(0, len(names), _PAGE):
        page = names[first : first + _PAGE]
        try:
            yield from current_store().replay_quarantined(page, mode)
        except QuarantinedNotFound:
            if not first:
                raise
            yield from (Replayed(name, "unknown") for name in page)


def _drop_one(message_id: str) -> int:
    """Drop one of several. Returns 0 if somebody else has dropped it since the check."""
    try:
        return current_store().drop_quarantined(QuarantineFilter(ids=(message_id,)))
    except QuarantinedNotFound:
        return 0


def _drop_seen(wanted: QuarantineFilter, seen: Sequence[str]) -> int:
    if not seen:
        return 0
    return current_store().drop_quarantined(msgspec.structs.replace(wanted, newest=seen[0]), len(seen))


def _require_choice(
    ids: tuple[str, ...], *, everything: bool, topic: str | None, partition: int | None, reason: str | None
) -> QuarantineFilter:
    """Raise UsageError unless there are either ids, or a filter, or --all."""
    wanted = QuarantineFilter(topic=topic, partition=partition, reason=reason)
    is_filtered = wanted != QuarantineFilter()
    if bool(ids) + is_filtered + everything != 1:
        raise click.UsageError("name the ids of messages, or a filter, or --all: one of these")
    return wanted


def _choose(wanted: QuarantineFilter, verb: str, times: text.Times, *, yes: bool, as_json: bool) -> list[str]:
    """Return the ids of the messages that there are now, once somebody has seen them and agreed."""
    require_answer(yes=yes, as_json=as_json)
    with exits.reporting_errors(as_json=as_json):
        entries = list(_list_all(wanted))
    if entries and not yes:
        click.echo(text.safe(_describe_choice(entries, times)), err=True)
        ask(f"{verb} exactly these?")
    return [entry.id for entry in entries]


def _list_all(wanted: QuarantineFilter) -> Iterator[Quarantined]:
    before: str | None = None
    while True:
        page = current_store().list_quarantine(wanted, _PAGE, before)
        yield from page.messages
        before = page.next
        if before is None:
            return


def _describe_choice(entries: Sequence[Quarantined], times: text.Times) -> str:
    lines = [_table(entries[:SHOWN], times)]
    if len(entries) > SHOWN:
        by_partition = Counter(f"{entry.topic}/{entry.partition}" for entry in entries)
        lines.append(", ".join(f"{count:,} of {name}" for name, count in by_partition.most_common(10)))
    return "\n".join([*lines, f"{text.counted(len(entries), 'message')}, the newest of {times.minute(entries[0].at)}."])


def _describe(page: QuarantinePage, times: text.Times) -> str:
    held = page.held
    dropped = f", {held.totals.dropped:,} dropped because it was full" if held.totals.dropped else ""
    if not page.messages:
        return f"The quarantine has no such message; {held.count:,} in all{dropped}."
    lines = [_table(page.messages, times)]
    if len(page.messages) < held.count or dropped:
        lines.append(f"{len(page.messages):,} of {text.counted(held.count, 'message')}{dropped}.")
    return "\n".join(lines)


def _table(entries: Sequence[Quarantined], times: text.Times) -> str:
    rows = [(entry.id, times.minute(entry.at), entry.facts.reason) for entry in entries]
    return text.table(("OFFSET", f"WHEN ({times.zone})", "WHY"), rows)


def _describe_one(message: QuarantinedMessage, times: text.Times) -> Iterator[str]:
    entry, content = message.entry, message.content
    yield f"{entry.id}: {printable(entry.facts.reason)}"
    yield f"quarantined  {times.with_zone(entry.at)}"
    if entry.facts.timestamp is not None and 0 <= entry.facts.timestamp < clock.YEAR_10000 // 1000:
        yield f"sent         {times.with_zone(entry.facts.timestamp * 1000)}"
    yield f"size         {text.size(entry.facts.size)}"
    reference = entry.facts.reference
    if reference is not None:
        yield f"in Kafka     {reference.topic}/{reference.partition}@{reference.offset}, as it is too large to be here"
        return
    yield f"key          {_shown(content.key)}"
    for name, value in content.headers:
        yield f"header       {printable(name)}: {_shown(value)}"
    yield f"value        {_shown(content.value)}"


def _shown(content: bytes | None) -> str:
    """Return bytes as text, or as base64 if they are not text. A long one is cut."""
    if content is None:
        return "none"
    cut = "" if len(content) <= _SHOWN_BYTES else f" … {text.size(len(content))} in all; --json has them"
    try:
        return printable(content.decode()[:_SHOWN_BYTES]) + cut
    except UnicodeDecodeError:
        return f"base64 {base64.b64encode(content[:_SHOWN_BYTES]).decode()}{cut}"


def _describe_replayed(results: Sequence[Replayed]) -> str:
    if not results:
        return "There is none."
    counts = Counter(result.outcome for result in results)
    lines = [f"{text.counted(counts['replayed'], 'event')} appended."] if counts["replayed"] else []
    if counts["duplicate"]:
        lines.append(f"{text.counted(counts['duplicate'], 'event')} already there.")
    others = [result for result in results if result.outcome in ("refused", "unknown")]
    for result in others[:SHOWN]:
        why = "is not in the quarantine" if result.reason is None else f"stays: {printable(result.reason)}"
        lines.append(f"{printable(result.id)} {why}")
    return "\n".join([*lines, *([f"{len(others) - SHOWN:,} more stay."] if len(others) > SHOWN else [])])


def _describe_dropped(done: dict[str, Any]) -> str:
    return f"{text.counted(done['dropped'], 'message')} dropped." if done["dropped"] else "There is none."

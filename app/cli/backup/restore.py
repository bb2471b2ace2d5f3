"""`flask backup restore` and `undo`: each shows its plan, asks for a yes, and shows its progress."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from app.backup.answers import previous_database_json, restored_json, undone_json
from app.cli import exits, text
from app.cli.backup import part_restore
from app.cli.backup.names import BackupName
from app.cli.backup.part_restore import into_options
from app.cli.connection import current_store
from app.cli.moments import MomentType
from app.cli.options import ask, detach_option, json_option, print_begun, require_answer, utc_option, yes_option
from app.cli.program import program
from app.cli.watching import run_operation
from app.store_retry import retry_while_store_is_away
from eventvault import clock, data_folders
from eventvault.errors import MomentUnavailable, NothingToUndo, UndoNotFound
from eventvault.printable import printable
from eventvault.restore.values import Moment, PreviousEntry, Restored

_TYPES = 3


@click.command("restore")
@click.argument("name", required=False, type=BackupName())
@click.option("--at", "moment", type=MomentType(), help='An instant, "2 min ago", 19:44:12, "#41202" (a sequence).')
@click.option("--generation", help="With --at: a superseded generation, as `timeline` shows it.")
@click.option("--dry-run", is_flag=True, help="Show what would happen, and end.")
@click.option("--apply", type=click.Choice(["now", "restart"]), default="now", help="When. Default: now.")
@click.option("--cancel-jobs", is_flag=True, help="Cancel the unfinished jobs created after the moment.")
@click.option("--replay", is_flag=True, help="With --at: take Kafka's messages again from there on.")
@into_options
@yes_option
@detach_option
@utc_option
@json_option
def restore(
    *,
    name: str | None,
    moment: Moment | None,
    generation: str | None,
    dry_run: bool,
    apply: str,
    cancel_jobs: bool,
    replay: bool,
    into: str | None,
    yes: bool,
    detach: bool,
    utc: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Go back to the backup NAME, or to a moment. Shows what would happen and asks.

    Posts and reads go on meanwhile. What is left behind is kept: `flask backup undo`.

    With --into nothing is restored: matching events of that moment are copied, and all present ones stay.

    Exit: 3 the moment or the backup is not there, 4 another restore runs or FILE exists, 5 the archive is damaged,
    7 no space. Nothing was changed by any of them.
    """
    target = _target(name, moment, generation)
    if into is not None:
        if dry_run or cancel_jobs or replay or apply != "now":
            raise click.UsageError("--into goes with none of --dry-run, --cancel-jobs, --replay and --apply restart")
        _copy_into(target, into, filters, text.Times(utc=utc), yes=yes, detach=detach, as_json=as_json)
        return
    part_restore.refuse_filters(filters)
    if replay and isinstance(target, str):
        raise click.UsageError("--replay goes with --at; a restore of a backup always takes Kafka's messages again")
    times = text.Times(utc=utc)
    store = current_store()
    if dry_run or not yes:
        with exits.reporting_errors(as_json=as_json), _offering_nearest(target, times):
            plan = retry_while_store_is_away(lambda: store.plan_restore(target, replay=replay))
        if dry_run:
            exits.print_result(
                {"dryRun": True, "plan": plan}, lambda _: _describe_plan(target, plan, times), as_json=as_json
            )
            return
        require_answer(yes=yes, as_json=as_json, instead="add --yes, or --dry-run to see the plan")
        click.echo(text.safe(f"{_describe_plan(target, plan, times)}\n"), err=True)
        ask(_question(plan))
    staged = apply == "restart"

    def begin() -> Restored:
        if isinstance(target, str):
            return store.restore(target, staged=staged, cancel_jobs=cancel_jobs)
        return store.restore_moment(target, staged=staged, cancel_jobs=cancel_jobs, replay=replay)

    if detach:
        print_begun(begin, as_json=as_json)
        return

    def work() -> dict[str, Any]:
        with _offering_nearest(target, times):
            return restored_json(run_operation(store, "Restoring", begin, quiet=as_json))

    exits.run_and_print(work, lambda done: _describe_done(target, done, times), as_json=as_json)


def _copy_into(target: Moment | str, into: str, filters: dict[str, Any], times: text.Times, **how: bool) -> None:
    moment = Moment(archive=target) if isinstance(target, str) else target
    with exits.reporting_errors(as_json=how["as_json"]), _offering_nearest(target, times, into):
        part_restore.copy(moment, _text_of(moment, times), into, filters, **how)


def _text_of(moment: Moment, times: text.Times) -> str:
    if moment.archive is not None:
        return printable(moment.archive)
    if moment.instant is not None:
        return times.with_zone(moment.instant)
    return f"the generation {moment.generation}" if moment.sequence is None else f"event #{moment.sequence:,}"


@contextmanager
def _offering_nearest(target: Moment | str, times: text.Times, into: str | None = None) -> Iterator[None]:
    """If a moment is unavailable, let the hint be the command for the nearest moment that can be restored."""
    try:
        yield
    except MomentUnavailable as error:
        nearest = [moment for moment in error.details.get("nearest", ()) if moment.get("time")]
        if not nearest or isinstance(target, str):
            raise
        generation = f"{target.generation}@" if target.generation else ""
        instant = times.exact(clock.parse(nearest[-1]["time"]))
        copied = "" if into is None else f" --into {shlex.quote(into)}"
        hint = f"the nearest moment: {program()} backup restore --at {generation}{instant}{copied}"
        raise MomentUnavailable(error.message, hint=hint, **error.details) from error


def _target(name: str | None, moment: Moment | None, generation: str | None) -> Moment | str:
    if (name is None) == (moment is None):
        raise click.UsageError("name a backup, or give --at with a moment")
    if moment is None:
        if generation is not None:
            raise click.UsageError("--generation goes with --at")
        return str(name)
    return moment if generation is None else msgspec.structs.replace(moment, generation=generation)


def _describe_plan(target: Moment | str, plan: dict[str, Any], times: text.Times) -> str:
    behind = plan["eventsLeftBehind"]
    pairs = [("will be there", f"{text.number(plan['sequence'])} events{_last_at(plan, times)}")]
    if behind:
        pairs += [("set aside", text.counted(behind, "event"))]
        pairs += [("", line) for line in _describe_replaced(plan, times)]
    else:
        pairs += [("set aside", "nothing")]
    pairs += [
        ("reads", _sources(plan)),
        ("takes", _duration(plan)),
        ("disk", f"{text.size(plan['diskNeeded'])} of {text.size(plan['diskFree'])} free"),
    ]
    if plan.get("unfinishedJobs"):
        pairs.append(("jobs", f"{text.counted(plan['unfinishedJobs'], 'unfinished job')} created since; --cancel-jobs"))
    if plan.get("kafka"):
        pairs.append(("kafka", _describe_replay(plan["kafka"])))
    if plan.get("quarantineLeaves"):
        leaves = text.counted(plan["quarantineLeaves"], "message")
        pairs.append(("quarantine", f"{leaves} leave it; what Kafka still has is read again"))
    if not plan["proven"]:
        pairs.append(("origin", "not proven to be made here: its events are read one by one into a fresh database"))
    lines = [f"Going back to {_name_of(target, plan, times)}", ""]
    lines += [f"  {what:13}  {value}" for what, value in pairs]
    if behind:
        lines += ["", f"Nothing is deleted: `{program()} backup undo` brings the {text.counted(behind, 'event')} back."]
    return "\n".join(lines)


def _describe_replay(kafka: dict[str, Any]) -> str:
    if not kafka["again"]:
        return "continues where it is now; with --replay the messages since that moment are consumed again"
    if kafka["messages"] is None:
        return "how many messages come again is not known: no broker answers, or the backup does not say"
    again = f"{text.counted(kafka['messages'], 'message')} after it come again"
    return again + {True: "", None: "; whether these are all is not known"}.get(
        kafka["replayable"], "; THE OTHERS ARE GONE from Kafka"
    )


def _name_of(target: Moment | str, plan: dict[str, Any], times: text.Times) -> str:
    if isinstance(target, str):
        return printable(target)
    if target.instant is not None:
        return times.with_zone(target.instant)
    return f"event #{plan['sequence'] or 0:,}"


def _last_at(plan: dict[str, Any], times: text.Times) -> str:
    return f", the last of {times.second(clock.parse(plan['time']))}" if plan["time"] else ""


def _describe_replaced(plan: dict[str, Any], times: text.Times) -> list[str]:
    first, last = plan["firstLeftBehind"], plan["lastLeftBehind"]
    lines = [f"first {_event(first, times)}"] if first else []
    if last and last != first:
        lines.append(f"last  {_event(last, times)}")
    types = plan.get("types") or []
    if types:
        named = ", ".join(f"{text.number(kind['events'])} {printable(kind['type'])}" for kind in types[:_TYPES])
        lines.append(named + (", and others" if len(types) > _TYPES else ""))
    return lines


def _event(event: dict[str, Any], times: text.Times) -> str:
    at = times.second(clock.parse(event["recordedtime"]))
    return f"#{event['sequence']:,} {printable(str(event['type']))} {at}"


def _sources(plan: dict[str, Any]) -> str:
    segments = len(plan["segments"])
    parts = [printable(plan["archive"])] if plan["archive"] else []
    parts += ["the current database"] if plan["presentDatabase"] else []
    parts += [f"{text.counted(segments, 'segment')} of the journal"] if segments else []
    return f"{' and '.join(parts) or 'nothing'}, {text.size(plan['bytesToRead'])}"


def _duration(plan: dict[str, Any]) -> str:
    predicted = plan["predictedSeconds"]
    return (
        "not known yet" if predicted is None else f"about {text.seconds(predicted)}, by this machine's earlier restores"
    )


def _question(plan: dict[str, Any]) -> str:
    behind = plan["eventsLeftBehind"]
    return f"Set {text.counted(behind, 'event')} aside and go back?" if behind else "Go back?"


def _describe_done(target: Moment | str, done: dict[str, Any], times: text.Times) -> str:
    events = text.counted(done["events"], "event")
    if done["restartRequired"]:
        return f"{events} are ready. The next start of the service puts them in place: {done['restartCommand']}"
    first = f"Back at {_reached(target, done, times)}: {events}, in {text.seconds(done['durationMs'] / 1000)}."
    cancelled = done["cancelledJobs"]
    jobs = [] if cancelled is None else [f"{text.counted(cancelled, 'job')} created since were cancelled."]
    undo = [f"  undo: {program()} backup undo"] if done["undo"] else []
    return "\n".join([first, *jobs, *map(printable, done["notes"]), *undo])


def _reached(target: Moment | str, done: dict[str, Any], times: text.Times) -> str:
    if isinstance(target, str):
        return printable(target)
    return f"event #{done['events']:,}" if target.instant is None else times.with_zone(target.instant)


@click.command("undo")
@click.argument("name", required=False)
@click.option("--list", "list_only", is_flag=True, help="List what can be brought back.")
@yes_option
@detach_option
@utc_option
@json_option
def undo(*, name: str | None, list_only: bool, yes: bool, detach: bool, utc: bool, as_json: bool) -> None:
    """Take the newest restore back, or bring back the previous database NAME. An undo can be undone."""
    store, times = current_store(), text.Times(utc=utc)
    if list_only:
        exits.run_and_print(
            lambda: {"undo": [previous_database_json(entry) for entry in retry_while_store_is_away(store.list_undo)]},
            lambda done: _describe_previous(done["undo"], times),
            as_json=as_json,
        )
        return
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            previous = _choose_previous(retry_while_store_is_away(store.list_undo), name)
        require_answer(yes=yes, as_json=as_json)
        click.echo(text.safe(_describe_undo(previous, times)), err=True)
        ask(f"Bring back {text.number(previous.events)} events?")
    if detach:
        print_begun(lambda: store.undo(name), as_json=as_json)
        return
    exits.run_and_print(
        lambda: undone_json(run_operation(store, "Bringing back", lambda: store.undo(name), quiet=as_json)),
        _describe_undone,
        as_json=as_json,
    )


def _choose_previous(entries: list[PreviousEntry], name: str | None) -> PreviousEntry:
    if not entries:
        raise NothingToUndo("no restore was made whose previous database is kept", hint="flask backup list")
    for entry in entries:
        if name in (None, entry.name):
            return entry
    raise UndoNotFound(f"there is no previous database {name!r}", hint="flask backup undo --list shows the names")


def _describe_undo(previous: PreviousEntry, times: text.Times) -> str:
    what = f"what was there before {times.with_zone(previous.replaced_at)}"
    entry = previous_database_json(previous)
    replaced = f", by the {printable(_replaced_by(entry, times))}"
    return f"Bringing back {what}{replaced}\n\n  comes back  {text.number(previous.events)} events\n"


def _describe_previous(entries: list[dict[str, Any]], times: text.Times) -> str:
    if not entries:
        return "There is nothing to undo."
    rows = [
        (
            times.second(clock.parse(entry["left"])),
            text.number(entry["events"]),
            text.size(entry["size"]),
            _replaced_by(entry, times),
            entry["name"],
        )
        for entry in entries
    ]
    header = (f"LEFT ({times.zone})", "EVENTS", "SIZE", "BY", "NAME")
    return text.table(header, rows, right={1, 2})


def _replaced_by(entry: dict[str, Any], times: text.Times) -> str:
    source, moment = entry["source"], entry["moment"]
    if moment is not None:
        time = f"event #{moment['sequence']:,}" if moment["time"] is None else times.second(clock.parse(moment["time"]))
        return f"restore to {time}"
    if source is None:
        return "restore"
    return "undo" if source.startswith(data_folders.PREVIOUS_PREFIX) else f"restore of {source}"


def _describe_undone(done: dict[str, Any]) -> str:
    first = f"As it was: {text.counted(done['events'], 'event')}, in {text.seconds(done['durationMs'] / 1000)}."
    behind = (done["leftBehind"] or {}).get("count")
    since = (
        f" {text.counted(behind, 'event')} posted since {'is' if behind == 1 else 'are'} set aside." if behind else ""
    )
    return f"{first}{since} An undo can be undone."

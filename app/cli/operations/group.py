"""`flask operations`: lists, watches and cancels long work, whoever began it."""

from __future__ import annotations

from typing import Any

import click

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.group import Group, is_json
from app.cli.meta import UTC
from app.cli.operations.ids import whole_id
from app.cli.options import json_option, utc_option
from app.cli.watching import watch
from app.operations.answers import KINDS, operation_json
from app.operations.following import result_of
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.exit_statuses import INTERRUPTED
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import RUNNING, STATES
from eventvault.printable import printable

SHOWN = 50


@click.pass_context
def _list_alone(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        _list(OperationQuery(limit=SHOWN), utc=bool(context.meta.get(UTC)), as_json=is_json(context, ()))


group = Group(
    "operations",
    help="Long work: what runs, and what ran in the last 30 days. Alone it lists the newest.",
    invoke_without_command=True,
    callback=_list_alone,
)


@group.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those in this state.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only those of this kind.")
@click.option("--limit", default=SHOWN, type=click.IntRange(1, 1000), help=f"How many. Default: {SHOWN}.")
@utc_option
@json_option
def list_operations(*, states: tuple[str, ...], kinds: tuple[str, ...], limit: int, utc: bool, as_json: bool) -> None:
    """The operations, newest first."""
    _list(OperationQuery(states=list(states), kinds=list(kinds), limit=limit), utc=utc, as_json=as_json)


def _list(query: OperationQuery, *, utc: bool, as_json: bool) -> None:
    with exits.reporting_errors(as_json=as_json):
        entries = retry_while_store_is_away(lambda: current_store().list_operations(query))
    exits.print_result(
        {"operations": [operation_json(entry) for entry in entries]},
        lambda _: _describe(entries, text.Times(utc=utc)),
        as_json=as_json,
    )


def _describe(entries: list[OperationEntry], times: text.Times) -> str:
    if not entries:
        return "No operation."
    header = ("ID", "KIND", "STATE", "PROGRESS", "SPEED", "LEFT", "BY", f"SINCE ({times.zone})", "ERROR")
    return text.table(header, [_row(entry, times) for entry in entries], right={3, 4, 5})


def _row(entry: OperationEntry, times: text.Times) -> tuple[str, ...]:
    progress, runs = entry.progress, entry.state == RUNNING
    speed = f"{text.size(round(progress.bytes_per_second))}/s" if runs and progress.bytes_per_second else ""
    remaining = text.seconds(progress.remaining_seconds) if runs and progress.remaining_seconds is not None else ""
    return (
        entry.id,
        entry.kind,
        entry.state,
        f"{progress.fraction:.0%}",
        speed,
        remaining,
        printable(entry.started_by),
        times.second(entry.started_at),
        "" if entry.error is None else str(entry.error["message"]),
    )


@group.command("watch")
@click.argument("typed", metavar="ID")
@json_option
def watch_operation(*, typed: str, as_json: bool) -> None:
    """Show the progress of an operation until it ends. Ctrl-C leaves it running."""

    def work() -> dict[str, Any]:
        store = current_store()
        operation_id = whole_id(store, typed)
        entry = watch(store, operation_id, f"Watching {printable(operation_id)}", quiet=as_json)
        result_of(entry)
        return {"operation": operation_json(entry)}

    try:
        exits.run_and_print(work, _describe_end, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"The operation {printable(typed)} goes on.", err=True)
        raise SystemExit(INTERRUPTED) from None


@group.command("cancel")
@click.argument("typed", metavar="ID")
@json_option
def cancel(*, typed: str, as_json: bool) -> None:
    """Have an operation end with nothing half done. Exit: 4 once it has ended, or once a swap is decided."""

    def work() -> dict[str, Any]:
        store = current_store()
        operation_id = whole_id(store, typed)
        return {"operation": operation_json(retry_while_store_is_away(lambda: store.cancel_operation(operation_id)))}

    exits.run_and_print(
        work,
        lambda done: f"{done['operation']['kind']} {done['operation']['id']} ends as soon as it can.",
        as_json=as_json,
    )


def _describe_end(done: dict[str, Any]) -> str:
    operation = done["operation"]
    took = (clock.parse(operation["endedAt"]) - clock.parse(operation["startedAt"])) / 1e6
    return f"{operation['kind']} {operation['id']} {operation['state']}, after {text.seconds(took)}."

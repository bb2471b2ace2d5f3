"""`flask operations`: long work, whoever began it: listed, watched and cancelled."""

from __future__ import annotations

from typing import Any

import click

from app.cli import exits, text
from app.cli.group import Group
from app.cli.options import json_option, utc_option
from app.cli.watching import result_of, watch
from app.edge import current_store
from app.operations.schemas import KINDS, operation_json
from app.streaming import retry_while_store_is_away
from eventvault import clock
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import STATES
from eventvault.printable import printable

group = Group("operations", help="Long work: what runs, and what ran in the last 30 days.")

SHOWN = 50


@group.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those in this state.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only those of this kind.")
@click.option("--limit", default=SHOWN, type=click.IntRange(1, 1000), help=f"How many. Default: {SHOWN}.")
@utc_option
@json_option
def list_operations(*, states: tuple[str, ...], kinds: tuple[str, ...], limit: int, utc: bool, as_json: bool) -> None:
    """The operations, newest first."""
    query = OperationQuery(states=list(states), kinds=list(kinds), limit=limit)
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
    rows = [
        (
            entry.id,
            entry.kind,
            entry.state,
            f"{entry.progress.fraction:.0%}",
            printable(entry.started_by),
            times.second(entry.started_at),
            "" if entry.error is None else str(entry.error["message"]),
        )
        for entry in entries
    ]
    return text.table(("ID", "KIND", "STATE", "DONE", "BY", f"SINCE ({times.zone})", "ERROR"), rows, right={3})


@group.command("watch")
@click.argument("operation_id", metavar="ID")
@json_option
def watch_operation(*, operation_id: str, as_json: bool) -> None:
    """Show the progress of an operation until it ends. Ctrl-C leaves it running."""

    def work() -> dict[str, Any]:
        store = current_store()
        entry = watch(store, operation_id, f"Watching {printable(operation_id)}", quiet=as_json)
        result_of(entry)
        return {"operation": operation_json(entry)}

    try:
        exits.run_and_print(work, _describe_end, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"The operation {printable(operation_id)} goes on.", err=True)
        raise SystemExit(exits.INTERRUPTED_STATUS) from None


@group.command("cancel")
@click.argument("operation_id", metavar="ID")
@json_option
def cancel(*, operation_id: str, as_json: bool) -> None:
    """Have an operation end with nothing half done. Exit: 4 once it has ended, or once a swap is decided."""
    exits.run_and_print(
        lambda: {
            "operation": operation_json(
                retry_while_store_is_away(lambda: current_store().cancel_operation(operation_id))
            )
        },
        lambda done: f"{done['operation']['kind']} {done['operation']['id']} ends as soon as it can.",
        as_json=as_json,
    )


def _describe_end(done: dict[str, Any]) -> str:
    operation = done["operation"]
    took = (clock.parse(operation["endedAt"]) - clock.parse(operation["startedAt"])) / 1e6
    return f"{operation['kind']} {operation['id']} {operation['state']}, after {text.seconds(took)}."

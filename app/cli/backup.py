"""`flask backup`: the group of commands for backups and recovery."""

from __future__ import annotations

from typing import Any

import click

from app.cli import exits
from app.cli.backup_create import create, verify
from app.cli.backup_keep import delete, download, pin, unpin
from app.cli.backup_list import list_backups, show, timeline
from app.cli.backup_restore import restore, undo
from app.cli.group import Group
from app.cli.rehearse import rehearse
from app.cli.trust import trust
from app.edge import current_edge
from eventvault.errors import InvalidInput

group = Group("backup", help="Back up, restore, undo.")
for command in (
    create, list_backups, show, timeline, restore, undo, verify, pin, unpin, delete, download,
    rehearse, trust,
):  # fmt: skip
    group.add_command(command)


@group.command("recover")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also for errors. Requires --yes.")
def recover(*, yes: bool, as_json: bool) -> None:
    """Recover a lost STORAGE_DIR from BACKUP_DIR, up to the last journaled event.

    The service must not run. An existing database is never changed.
    """
    from app.cli.recover import RecoverCommand  # late: gunicorn's workers load this module but not that one

    if as_json and not yes:
        error = InvalidInput("--json cannot ask for confirmation; nothing was changed", hint="add --yes")
        exits.exit_with_error(error, as_json=True)
    command = RecoverCommand(current_edge().settings)
    with exits.reporting_errors(as_json=as_json):
        sources = command.require_sources()
    if not yes:
        click.confirm(f"Recover {current_edge().settings.database} from {sources}?", abort=True, err=True)
    exits.run_and_print(command.run, _describe, as_json=as_json)


def _describe(recovered: dict[str, Any]) -> str:
    first = f"{recovered['events']} events were recovered from {recovered['source']} in {recovered['durationMs']} ms."
    last = f"Start the service now. The next event gets sequence number {recovered['events'] + 1}."
    return "\n".join([first, *recovered["notes"], last])

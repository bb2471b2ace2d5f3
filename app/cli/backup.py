"""`flask backup`: what is done to backups from a shell."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup

from app.cli import exits
from app.edge import edge
from eventvault.errors import EventVaultError, InvalidInput

group = AppGroup("backup", help="Backups and recovery.")


@group.command("recover")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, errors included; needs --yes.")
def recover(*, yes: bool, as_json: bool) -> None:
    """Recover a lost STORAGE_DIR from BACKUP_DIR, up to the last journaled event.

    The service must not run. A database that is there is never touched.
    """
    from app.cli.recover import Recovery  # not above: gunicorn's workers load this module, and need nothing of it

    if as_json and not yes:
        asked = InvalidInput("with --json nothing is asked, and nothing was done", hint="add --yes")
        exits.fail(asked, as_json=True)
    recovery = Recovery(edge().settings)
    try:
        left = recovery.check()
    except EventVaultError as error:
        exits.fail(error, as_json=as_json)
    if not yes:
        click.confirm(f"Recover {edge().settings.database} from {left}?", abort=True, err=True)
    exits.answer(recovery.run, _said, as_json=as_json)


def _said(recovered: dict[str, Any]) -> str:
    first = f"{recovered['events']} events were recovered from {recovered['source']} in {recovered['durationMs']} ms."
    last = f"Start the service now: it goes on with event {recovered['events'] + 1}."
    return "\n".join([first, *recovered["notes"], last])

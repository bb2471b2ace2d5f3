"""`flask backup rehearse`: tries a restore, here or from a copy of BACKUP_DIR, and says how long it takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from app.cli import exits
from app.cli.backup.names import BackupName
from app.cli.connection import current_settings, current_store
from app.store_retry import retry_while_store_is_away


@click.command("rehearse")
@click.argument("name", required=False, type=BackupName())
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A copy of backups/, of any installation. It is only read, and no store is needed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also for errors.")
def rehearse(*, name: str | None, folder: Path | None, as_json: bool) -> None:
    """Restore into a scratch folder, compare every event, measure, and remove what was restored.

    NAME is one archive; without it, the newest state that archives and journal hold is restored.
    """
    with exits.reporting_errors(as_json=as_json):
        rehearsal = _rehearse(name, folder)
    exits.run_and_print(lambda: {"rehearsal": rehearsal}, _describe, as_json=as_json)
    if rehearsal["problem"] is not None:
        sys.exit(exits.exit_status_of(rehearsal["problem"]["code"]))


def _rehearse(name: str | None, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return retry_while_store_is_away(lambda: current_store().rehearse(name)).describe()
    from eventvault.rehearsals.elsewhere import rehearse_copy  # a rehearsal by the store does not need it

    return rehearse_copy(current_settings(), folder, name).describe()


def _describe(result: dict[str, Any]) -> str:
    rehearsal = result["rehearsal"]
    lines = [_first_line(rehearsal)]
    if rehearsal["problem"] is not None:
        lines.append(f"HINT: {rehearsal['problem']['hint']}")
    if rehearsal["rto"] is not None:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in rehearsal["rto"].items())
        lines.append(f"  back in     {rehearsal['rtoSeconds']:.1f} s   ({parts})")
    if rehearsal["rpoEvents"] is not None:
        lines.append(f"  would lose  {rehearsal['rpoSeconds']:.1f} s   ({rehearsal['rpoEvents']} events)")
    return "\n".join(lines)


def _first_line(rehearsal: dict[str, Any]) -> str:
    sources = [rehearsal["backup"]] if rehearsal["backup"] else []
    count = rehearsal["segments"]
    sources += [f"{count} segment{'' if count == 1 else 's'} of the journal"] if count else []
    source = " and ".join(sources) or "the journal"
    if rehearsal["problem"] is not None:
        return f"{source} cannot be restored as it should: {rehearsal['problem']['message']}"
    events, compared = rehearsal["events"], rehearsal["compared"]
    if rehearsal["rpoEvents"] is None:
        return f"Restored {source} aside: {events:,} events, every record read."
    if compared == events:
        return f"Restored {source} aside: {events:,} events, all equal to those here."
    return f"Restored {source} aside: {events:,} events, every record read, {compared:,} of them equal to those here."

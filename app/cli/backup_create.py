"""`flask backup create` and `flask backup verify`."""

from __future__ import annotations

from typing import Any

import click

from app.backup.answers import created_json, one_backup_json
from app.cli import exits, text
from app.cli.backup_names import BackupName
from app.cli.connection import current_store
from app.cli.options import detach_option, json_option, print_begun
from app.cli.watching import run_operation
from eventvault.errors import ArchiveError


@click.command("create")
@click.argument("label", required=False)
@detach_option
@json_option
def create(*, label: str | None, detach: bool, as_json: bool) -> None:
    """Back up now, with a LABEL if you like. Posts and reads go on meanwhile."""
    store = current_store()
    if detach:
        print_begun(lambda: store.create_backup(label), as_json=as_json)
        return
    exits.run_and_print(
        lambda: created_json(run_operation(store, "Backing up", lambda: store.create_backup(label), quiet=as_json)),
        _describe_created,
        as_json=as_json,
    )


def _describe_created(created: dict[str, Any]) -> str:
    what = f"{text.counted(created['events'] or 0, 'event')}, {text.size(created['size'])}"
    return f"{created['name']}\n  {what}, read back and good, in {text.seconds(created['durationMs'] / 1000)}"


@click.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=BackupName())
@click.option("--all", "all_backups", is_flag=True, help="Verify all backups.")
@click.option("--records", is_flag=True, help="Read every record, even of a backup that was made here.")
@json_option
def verify(*, names: tuple[str, ...], all_backups: bool, records: bool, as_json: bool) -> None:
    """Read backups to the last byte, and say what is damaged and where.

    Exit: 5 the one that was named is damaged, 8 one of several is.
    """
    if bool(names) == all_backups:
        raise click.UsageError("name the backups to verify, or give --all")
    with exits.reporting_errors(as_json=as_json):
        chosen = list(names) or [entry.name for entry in current_store().list_backups()]
        if len(chosen) == 1:
            exits.print_result(_verify(chosen[0], records=records, quiet=as_json), _describe_one, as_json=as_json)
            return
        verified, failed = _verify_each(chosen, records=records, quiet=as_json)
    done = {"verified": verified, "failed": failed}
    exits.print_result(done, _describe_several, as_json=as_json)
    if failed:
        raise SystemExit(exits.PARTLY_STATUS)


def _verify(name: str, *, records: bool, quiet: bool) -> dict[str, Any]:
    store = current_store()
    entry = run_operation(store, f"Verifying {name}", lambda: store.verify_backup(name, records=records), quiet=quiet)
    return one_backup_json(entry)


def _verify_each(names: list[str], *, records: bool, quiet: bool) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the good archives, and the errors of the damaged ones. Raises any other error."""
    verified, failed = [], list[dict[str, Any]]()
    for name in names:
        try:
            _verify(name, records=records, quiet=quiet)
        except ArchiveError as error:
            failed.append({"name": name, "code": error.code, "error": error.message, "hint": error.hint})
        else:
            verified.append(name)
    return verified, failed


def _describe_one(done: dict[str, Any]) -> str:
    how = "every record was read" if done["backup"]["checked"] == "records" else "every byte is as it was made"
    return f"{done['backup']['name']} is good: {how}."


def _describe_several(done: dict[str, Any]) -> str:
    good, failed = len(done["verified"]), done["failed"]
    if not failed:
        return f"{text.counted(good, 'backup')}: all are good." if good else "There is no backup."
    lines = [f"{good:,} of {good + len(failed):,} are good. The others are not:"]
    return "\n".join([*lines, *(f"  {failure['error']}\n  → {failure['hint']}" for failure in failed)])

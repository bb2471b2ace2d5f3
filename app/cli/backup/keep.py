"""`flask backup pin`, `unpin` and `delete`."""

from __future__ import annotations

from typing import Any

import click

from app.backup.answers import one_backup_json
from app.cli import exits, text
from app.cli.backup.listing import entry_named
from app.cli.backup.names import BackupName
from app.cli.connection import current_store
from app.cli.moments import InstantType
from app.cli.options import ask_for, json_option, require_answer, utc_option, yes_option
from app.store_retry import retry_while_store_is_away
from eventvault.backups.entry import BackupEntry
from eventvault.printable import printable


@click.command("pin")
@click.argument("name", type=BackupName())
@click.option("--reason", help="Why; `show` and `prune` print it.")
@click.option("--until", type=InstantType(), help="When the pin ends: 2027-01-31. Default: never.")
@utc_option
@json_option
def pin(*, name: str, reason: str | None, until: int | None, utc: bool, as_json: bool) -> None:
    """Keep a backup from rotation."""
    exits.run_and_print(
        lambda: one_backup_json(
            retry_while_store_is_away(lambda: current_store().pin_backup(name, pinned=True, reason=reason, until=until))
        ),
        lambda _: _describe_pinned(name, reason, until, text.Times(utc=utc)),
        as_json=as_json,
    )


def _describe_pinned(name: str, reason: str | None, until: int | None, times: text.Times) -> str:
    end = f" until {times.second(until)}" if until is not None else ""
    return f"{printable(name)} is kept from rotation{end}{': ' + printable(reason) if reason else '.'}"


@click.command("unpin")
@click.argument("name", type=BackupName())
@json_option
def unpin(*, name: str, as_json: bool) -> None:
    """Return a backup to rotation."""
    exits.run_and_print(
        lambda: one_backup_json(retry_while_store_is_away(lambda: current_store().pin_backup(name, pinned=False))),
        lambda _: f"{printable(name)} may be removed by rotation again.",
        as_json=as_json,
    )


@click.command("delete")
@click.argument("name", type=BackupName())
@click.option("--force", is_flag=True, help="Even one that is pinned, or the last good one.")
@yes_option
@json_option
def delete(*, name: str, force: bool, yes: bool, as_json: bool) -> None:
    """Remove one backup, for good. Asks for its name."""
    store = current_store()
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            entries = retry_while_store_is_away(store.list_backups)
            entry = entry_named(entries, name)
        require_answer(yes=yes, as_json=as_json)
        _show_loss(entry, entries)
        ask_for(name)

    def remove() -> dict[str, Any]:
        retry_while_store_is_away(lambda: store.delete_backup(name, force=force))
        return {"name": name}

    exits.run_and_print(remove, lambda _: f"{printable(name)} was removed.", as_json=as_json)


def _show_loss(entry: BackupEntry, entries: list[BackupEntry]) -> None:
    good = sum(other.problem is None for other in entries if other is not entry)
    freed = entry.size if entry.unique_bytes is None else entry.unique_bytes
    click.echo(
        f"This removes {printable(entry.name)} for good: {text.size(freed)} become free, "
        f"{text.counted(good, 'good one')} {'stays' if good == 1 else 'stay'}.",
        err=True,
    )

"""`flask backup pin`, `unpin`, `delete` and `download`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from app.backup.answers import one_backup_json
from app.cli import exits, text
from app.cli.backup_list import entry_named
from app.cli.group import drop_output
from app.cli.moments import InstantType
from app.cli.options import ask_for, json_option, require_answer, utc_option, yes_option
from app.edge import current_store
from app.error_codes import FAILED
from app.streaming import retry_while_store_is_away
from eventvault.archive.locks import shared_lock
from eventvault.backups.entry import BackupEntry
from eventvault.errors import BackupExists, InvalidInput
from eventvault.files import durable_file
from eventvault.printable import printable

_COPY_BYTES = 2**20


@click.command("pin")
@click.argument("name")
@click.option("--reason", help="Why: as `list` and `show` tell it.")
@click.option("--until", type=InstantType(), help="When the pin ends by itself: 2027-01-31.")
@utc_option
@json_option
@with_appcontext
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
@click.argument("name")
@json_option
@with_appcontext
def unpin(*, name: str, as_json: bool) -> None:
    """Return a backup to rotation."""
    exits.run_and_print(
        lambda: one_backup_json(retry_while_store_is_away(lambda: current_store().pin_backup(name, pinned=False))),
        lambda _: f"{printable(name)} may be removed by rotation again.",
        as_json=as_json,
    )


@click.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even one that is pinned, or the last good one.")
@yes_option
@json_option
@with_appcontext
def delete(*, name: str, force: bool, yes: bool, as_json: bool) -> None:
    """Remove one backup, for good. Asks for its name."""
    require_answer(yes=yes, as_json=as_json)
    store = current_store()
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            entries = retry_while_store_is_away(store.list_backups)
            _show_loss(entry_named(entries, name), entries)
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


@click.command("download")
@click.argument("name")
@click.option(
    "-o", "--output", default=".", help="The file or the folder to write to, or - for standard output. Default: here."
)
@json_option
@with_appcontext
def download(*, name: str, output: str, as_json: bool) -> None:
    """Copy a backup out. A file that is there already is not replaced."""
    if output == "-" and as_json:
        raise click.UsageError("with -o - standard output has the archive, so it cannot have the JSON object of --json")
    with exits.reporting_errors(as_json=as_json):
        path = Path(retry_while_store_is_away(lambda: current_store().backup_path(name)))
        entry = entry_named(current_store().list_backups(), name)
        if output == "-":
            _copy_to_output(path)
            return
        target = Path(output) / path.name if Path(output).is_dir() else Path(output)
        size = _copy(path, target)
    done = {"path": str(target), "size": size, "digest": entry.digest, "sha256": entry.sha256}
    exits.print_result(done, _describe_copy, as_json=as_json)


def _copy(path: Path, target: Path) -> int:
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent}; nothing was written", hint="make it, or name another")
    try:
        with shared_lock(path) as handle, durable_file(target, replace=False) as file:
            _copy_bytes(handle, file)
            return file.tell()
    except FileExistsError:
        raise BackupExists(
            f"{target} exists, and nothing was written", hint="name another file with -o, or remove that one"
        ) from None


def _copy_to_output(path: Path) -> None:
    with shared_lock(path) as handle:
        try:
            _copy_bytes(handle, sys.stdout.buffer)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_output()
            sys.exit(FAILED)


def _copy_bytes(handle: int, file: Any) -> None:
    with os.fdopen(os.dup(handle), "rb") as source:
        shutil.copyfileobj(source, file, _COPY_BYTES)


def _describe_copy(done: dict[str, Any]) -> str:
    checksum = done["digest"] or (f"sha256:{done['sha256']}" if done["sha256"] else "")
    return "  ".join(filter(None, [printable(done["path"]), text.size(done["size"]), checksum]))

"""`flask backup download` and `upload`: copies a backup out, or takes one in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.backup.answers import one_backup_json
from app.cli import connection, exits, text
from app.cli.backup.listing import entry_named
from app.cli.backup.names import BackupName
from app.cli.group import drop_output
from app.cli.options import json_option
from app.cli.watching import display, run_operation
from app.store_retry import retry_while_store_is_away
from eventvault.backups import names
from eventvault.backups.entry import BackupEntry
from eventvault.errors import BackupExists, InvalidInput
from eventvault.exit_statuses import FAILED
from eventvault.files import durable_file
from eventvault.operations.operation import Progress
from eventvault.operations.rate import Rate
from eventvault.printable import printable
from eventvault.regular_files import open_file

_COPY_BYTES = 2**20
_STANDARD = "-"


@click.command("download")
@click.argument("name", type=BackupName())
@click.option(
    "-o", "--output", default=".", help="The file or the folder to write to, or - for standard output. Default: here."
)
@json_option
def download(*, name: str, output: str, as_json: bool) -> None:
    """Copy a backup out. A file that is there already is not replaced."""
    if output == _STANDARD and as_json:
        raise click.UsageError("with -o - standard output has the archive, so it cannot have the JSON object of --json")
    with exits.reporting_errors(as_json=as_json):
        here = connection.current_connection()
        with here.open_backup(name) as source:
            entry = entry_named(retry_while_store_is_away(here.store.list_backups), name)
            if output == _STANDARD:
                _copy_to_output(source)
                return
            target = Path(output) / name if Path(output).is_dir() else Path(output)
            size = _copy(source, target, entry.size, quiet=as_json)
    done = {"path": str(target), "size": size, "digest": entry.digest, "sha256": entry.sha256}
    exits.print_result(done, _describe_copy, as_json=as_json)


def _copy(source: BinaryIO, target: Path, size: int, *, quiet: bool) -> int:
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent}; nothing was written", hint="make it, or name another")
    try:
        with durable_file(target, replace=False) as file, _copy_display("Copying", size, quiet=quiet) as show:
            copy_bytes(source, file, show)
            return file.tell()
    except FileExistsError:
        raise BackupExists(
            f"{target} exists, and nothing was written", hint="name another file with -o, or remove that one"
        ) from None


def _copy_to_output(source: BinaryIO) -> None:
    try:
        copy_bytes(source, sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        sys.exit(FAILED)


def copy_bytes(source: BinaryIO, target: Any, copied: Callable[[int], None] = lambda _: None) -> None:
    """Copy all bytes. copied: called with the number of bytes so far."""
    total = 0
    while piece := source.read(_COPY_BYTES):
        target.write(piece)
        total += len(piece)
        copied(total)


@contextmanager
def _copy_display(doing: str, size: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many of `size` bytes were copied so far."""
    rate, copied = Rate(time.monotonic()), 0
    with display(doing, quiet=quiet) as show:

        def advance(total: int) -> None:
            nonlocal copied
            now = time.monotonic()
            rate.add(total - copied, now)
            copied = total
            speed = rate.per_second(now)
            show(
                Progress(
                    fraction=min(1.0, total / max(size, 1)),
                    bytes_done=total,
                    bytes_total=size,
                    bytes_per_second=speed,
                    remaining_seconds=(size - total) / speed if speed else None,
                )
            )

        yield advance


def _describe_copy(done: dict[str, Any]) -> str:
    checksum = done["digest"] or (f"sha256:{done['sha256']}" if done["sha256"] else "")
    return "  ".join(filter(None, [printable(done["path"]), text.size(done["size"]), checksum]))


@click.command("upload")
@click.argument("file", type=click.Path(path_type=str, allow_dash=True))
@click.option("--name", help="Its name as a backup. Default: the name of the file.")
@json_option
def upload(*, file: str, name: str | None, as_json: bool) -> None:
    """Take a backup in: one of another machine, or an archive of another program. With - from standard input.

    It is read to its end before it gets its name. Exit: 4 the name is in use, 5 it is damaged or no archive, 7 no
    space. Then nothing of it remains.
    """
    if name is None and file == _STANDARD:
        raise click.UsageError("name the archive that comes from standard input: --name backup_….tar.gz")
    exits.run_and_print(
        lambda: one_backup_json(_upload(file, name or Path(file).name, quiet=as_json)),
        _describe_uploaded,
        as_json=as_json,
    )


def _upload(file: str, name: str, *, quiet: bool) -> BackupEntry:
    names.check_name(name)
    here = connection.current_connection()
    with _source(file) as source, here.stage_upload(source) as path:
        size = Path(path).stat().st_size

        def begin() -> BackupEntry:
            with _copy_display("Sending", size, quiet=quiet or here.is_here) as show:
                return here.adopt(path, name, show)

        return run_operation(here.store, "Checking", begin, quiet=quiet)


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == _STANDARD:
        yield sys.stdin.buffer
        return
    try:
        opened = open_file(Path(file))
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read: {error.strerror}; nothing was taken in", hint="name a file that this user may read"
        ) from None
    with opened:
        yield opened


def _describe_uploaded(done: dict[str, Any]) -> str:
    backup = done["backup"]
    events = "unknown" if backup["events"] is None else text.counted(backup["events"], "event")
    made = f"{events}, {text.size(backup['size'])}"
    proven = "made by this installation" if backup["proven"] else "not proven to be made here: a restore replays it"
    return f"{printable(backup['name'])} was taken in: {made}, every byte read, {proven}."

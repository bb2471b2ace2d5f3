"""`flask backup verify`: one backup, or several with one display for all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from app.backup.answers import one_backup_json
from app.cli import exits, text
from app.cli.backup.names import BackupName
from app.cli.connection import current_store
from app.cli.options import json_option
from app.cli.program import program
from app.cli.watching import SharedProgress, Show, display, run_operation, run_shown
from app.store_retry import retry_while_store_is_away
from eventvault.backups.entry import BackupEntry
from eventvault.errors import ArchiveDamaged, ArchiveError, EventVaultError
from eventvault.exit_statuses import PARTLY
from eventvault.operations.operation import Progress
from eventvault.operations.rate import Rate
from eventvault.store.ports.store import Store

_READING = re.compile(r"reading .*? failed(?: at byte (\d+))?: (.*)", re.DOTALL)


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
        store = current_store()
        chosen = dict.fromkeys(names, 0) if len(names) == 1 else _sizes(names, store)
        if len(chosen) == 1:
            done = _verify_one(next(iter(chosen)), store, records=records, quiet=as_json)
            exits.print_result(done, _describe_one, as_json=as_json)
            return
        with display("Verifying", quiet=as_json) as show:
            verified, failed = _verify_each(chosen, store, show, records=records)
    exits.print_result({"verified": verified, "failed": failed}, _describe_several, as_json=as_json)
    if failed:
        if not as_json:
            click.echo(text.safe("\n".join(map(_hint_line, failed))), err=True)
        raise SystemExit(PARTLY)


def _sizes(names: tuple[str, ...], store: Store) -> dict[str, int]:
    """Return name → bytes, of all archives if none is named; 0 for one that is not listed."""
    sizes = {entry.name: entry.size for entry in retry_while_store_is_away(store.list_backups)}
    return {name: sizes.get(name, 0) for name in names or sizes}


def _verify_one(name: str, store: Store, *, records: bool, quiet: bool) -> dict[str, Any]:
    begin = _verification(name, store, records=records)
    return one_backup_json(run_operation(store, f"Verifying {name}", begin, quiet=quiet))


def _verification(name: str, store: Store, *, records: bool) -> Callable[[], BackupEntry]:
    return lambda: store.verify_backup(name, records=records)


def _verify_each(
    sizes: Mapping[str, int], store: Store, show: Show, *, records: bool
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the good archives, and the errors of the damaged ones. Raises any other error."""
    verified, failed, progress = list[str](), list[dict[str, Any]](), _CombinedProgress(sizes, show)
    for name in sizes:
        progress.begin(name)
        try:
            run_shown(store, _verification(name, store, records=records), progress.advance)
        except ArchiveError as error:
            hint = _hint(name, error, store)
            failed.append({"name": name, "code": error.code, "error": error.message, "hint": hint})
        else:
            verified.append(name)
        progress.advance(Progress(1.0))
    return verified, failed


class _CombinedProgress:
    """Shows the progress of several archives as one. sizes: name → bytes."""

    def __init__(self, sizes: Mapping[str, int], show: Show) -> None:
        self._sizes = sizes
        self._show = show
        self._total = sum(sizes.values())
        self._number = self._size = self._before = self._done = 0
        self._rate = Rate(time.monotonic())

    def begin(self, name: str) -> None:
        self._number += 1
        self._before += self._size
        self._size = self._sizes[name]
        self.advance(Progress())

    def advance(self, progress: Progress) -> None:
        """Show the progress of all. progress: of the current archive."""
        now, done = time.monotonic(), max(self._done, self._before + round(self._size * progress.fraction))
        self._rate.add(done - self._done, now)
        self._done = done
        speed = self._rate.per_second(now)
        self._show(
            SharedProgress(
                fraction=done / max(self._total, 1),
                bytes_done=done,
                bytes_total=self._total,
                bytes_per_second=speed,
                remaining_seconds=(self._total - done) / speed if speed else None,
                parts=f"{self._number:,} of {len(self._sizes):,}",
            )
        )


def _hint(name: str, error: ArchiveError, store: Store) -> str:
    """Return what to do about an archive that is not good: to remove it, if it is damaged and nothing needs it."""
    try:
        plan = store.plan_deletion(name)
        window = plan["window"]
    except (EventVaultError, LookupError):  # a token may verify and not delete
        return error.hint
    if not isinstance(error, ArchiveDamaged) or plan["lost"] or window["before"] != window["after"]:
        return error.hint
    return f"every moment is still reached without it; remove it: {program()} backup delete {name}"


def _hint_line(failure: dict[str, Any]) -> str:
    name, hint = failure["name"], failure["hint"]
    return f"HINT: {hint}" if name in hint else f"HINT: {name}: {hint}"


def _describe_one(done: dict[str, Any]) -> str:
    how = "every record was read" if done["backup"]["checked"] == "records" else "every byte is as it was made"
    return f"{done['backup']['name']} is good: {how}."


def _describe_several(done: dict[str, Any]) -> str:
    good, failed = len(done["verified"]), done["failed"]
    if not failed:
        return f"{text.counted(good, 'backup')}: all are good." if good else "There is no backup."
    what = "damaged" if all(failure["code"] == ArchiveDamaged.code for failure in failed) else "not good"
    first = f"{good:,} {_are(good)} good. {len(failed):,} {_are(len(failed))} {what}:"
    width = max(len(failure["name"]) for failure in failed)
    return "\n".join([first, *(f"  {failure['name']:{width}}  {_fault(failure['error'])}" for failure in failed)])


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _fault(message: str) -> str:
    """Return where an archive is damaged, and why, without its path."""
    parts = _READING.fullmatch(message)
    if parts is None:
        return message
    return parts[2] if parts[1] is None else f"at byte {int(parts[1]):,}: {parts[2]}"

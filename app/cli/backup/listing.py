"""`flask backup list` and `show`: which backups there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import orjson

from app.backup.answers import backup_json
from app.cli import exits, text
from app.cli.backup.names import BackupName
from app.cli.connection import current_store
from app.cli.moments import InstantType
from app.cli.options import json_option, utc_option
from app.cli.program import program
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.errors import BackupNotFound
from eventvault.printable import printable

SHOWN = 50


@click.command("list")
@click.option("--all", "all_backups", is_flag=True, help=f"More than the {SHOWN} newest.")
@click.option("--pinned", is_flag=True, help="Those that are pinned.")
@click.option("--damaged", is_flag=True, help="Those that are damaged or cannot be read.")
@click.option("--since", type=InstantType(), help='Those made since then: 2026-11-28, "7 d ago".')
@click.option("-q", "--quiet", is_flag=True, help="Names only, one a line.")
@utc_option
@json_option
def list_backups(
    *, all_backups: bool, pinned: bool, damaged: bool, since: int | None, quiet: bool, utc: bool, as_json: bool
) -> None:
    """The backups, newest first."""
    with exits.reporting_errors(as_json=as_json):
        entries = retry_while_store_is_away(current_store().list_backups)
        window = _window()
    chosen = [
        entry
        for entry in entries
        if (entry.pinned or not pinned)
        and (entry.problem is not None or not damaged)
        and (since is None or entry.created >= since)
    ]
    shown = chosen if all_backups or as_json or quiet else chosen[:SHOWN]
    if as_json:
        exits.print_result({"backups": [backup_json(entry) for entry in shown]}, str, as_json=True)
    elif quiet:
        click.echo("".join(f"{_printed_name(entry.name)}\n" for entry in shown), nl=False)
    else:
        click.echo(text.safe(_describe(shown, chosen, entries, window, text.Times(utc=utc))))


def _printed_name(name: str) -> str:
    """Return a name as another command takes it. On a terminal, marks that would rearrange the line are escaped."""
    return printable(name) if sys.stdout.isatty() else name


def _describe(
    shown: list[BackupEntry],
    chosen: list[BackupEntry],
    entries: list[BackupEntry],
    window: dict[str, Any] | None,
    times: text.Times,
) -> str:
    if not entries:
        return f"There is no backup. Make one: {program()} backup create"
    rows = [
        (
            times.minute(entry.created),
            text.sign("⚑", "*") if entry.pinned else "",
            text.number(entry.events),
            text.size(entry.size),
            _verified(entry),
            entry.name,
        )
        for entry in shown
    ]
    header = (f"MADE ({times.zone})", "", "EVENTS", "SIZE", "VERIFIED", "NAME")
    lines = [text.table(header, rows, right={2, 3}), ""] if rows else ["No backup is like that.", ""]
    if len(chosen) > len(shown):
        lines.append(f"{len(chosen) - len(shown):,} more: {program()} backup list --all")
    return "\n".join([*lines, _totals(entries), *describe_window(window, times)])


def _verified(entry: BackupEntry) -> str:
    if entry.problem is not None:
        return "cannot be read" if entry.unreadable else "DAMAGED"
    if entry.verified is None:
        return "never"
    at_once = entry.origin == "created" and abs(entry.verified - entry.created) < 600 * 1_000_000
    return "when made" if at_once else text.ago(entry.verified)


def _totals(entries: list[BackupEntry]) -> str:
    total = f"{text.counted(len(entries), 'backup')}, {text.size(sum(entry.size for entry in entries))}."
    if any(entry.pinned for entry in entries):
        total += f" {text.sign('⚑', '*')} pinned."
    damaged = [entry for entry in entries if entry.problem is not None]
    if damaged:
        verb = "is" if len(damaged) == 1 else "are"
        total += f" {len(damaged):,} {verb} damaged: {program()} backup show {printable(damaged[0].name)}"
    return total


def _window() -> dict[str, Any] | None:
    window: dict[str, Any] | None = current_store().status().get("window")
    return window


def describe_window(window: dict[str, Any] | None, times: text.Times) -> list[str]:
    if window is None:
        return []
    oldest = times.with_zone(clock.parse(window["oldest"]["time"]))
    return [f"You can go back to any moment since {oldest}."]


@click.command("show")
@click.argument("name", type=BackupName())
@click.option("--manifest", is_flag=True, help="The manifest of the archive, as JSON.")
@utc_option
@json_option
def show(*, name: str, manifest: bool, utc: bool, as_json: bool) -> None:
    """One backup: its events, its size, and when it was verified."""
    with exits.reporting_errors(as_json=as_json):
        store = current_store()
        entry = entry_named(retry_while_store_is_away(store.list_backups), name)
        content = store.backup_manifest(name) if manifest or as_json else {}
    if as_json:
        exits.print_result({"backup": backup_json(entry), "manifest": content}, str, as_json=True)
    elif manifest:
        click.echo(exits.json_text(content, orjson.OPT_INDENT_2))
    else:
        pairs = _pairs(entry, text.Times(utc=utc))
        click.echo(text.safe("\n".join(f"{what:11}  {value}" for what, value in pairs if value)))


def entry_named(entries: Sequence[BackupEntry], name: str) -> BackupEntry:
    """Return the backup of that name. Raises BackupNotFound."""
    for entry in entries:
        if entry.name == name:
            return entry
    raise BackupNotFound(f"there is no backup {name!r}", hint="flask backup list shows the names")


def _pairs(entry: BackupEntry, times: text.Times) -> list[tuple[str, str | None]]:
    pin = entry.pin
    pinned = None
    if pin is not None or entry.pinned:
        until = f" until {times.second(pin.until)}" if pin is not None and pin.until is not None else ""
        reason = f": {printable(pin.reason)}" if pin is not None and pin.reason else ""
        pinned = f"yes{until}{reason}"
    return [
        ("name", printable(entry.name)),
        ("label", printable(entry.label) if entry.label else None),
        ("made", f"{times.with_zone(entry.created)}, {text.ago(entry.created)}"),
        (
            "origin",
            f"{entry.origin}, {'proven' if entry.origin_proven else 'not proven: a restore replays its events'}",
        ),
        ("events", text.number(entry.events)),
        ("sequence", text.number(entry.sequence)),
        ("generation", entry.generation),
        ("size", text.size(entry.size)),
        ("shares", text.size(entry.shared_bytes) if entry.shared_bytes else None),
        ("frees", f"{text.size(entry.unique_bytes)}, if it is deleted" if entry.unique_bytes is not None else None),
        ("kafka", _KAFKA[entry.kafka_replayable]),
        ("verified", _checked(entry, times)),
        ("pinned", pinned),
        ("digest", entry.digest),
        ("sha256", entry.sha256),
        ("problem", printable(entry.problem) if entry.problem else None),
        ("file", printable(entry.path)),
    ]


_KAFKA = {
    True: "it holds all messages that came after this backup",
    False: "MESSAGES THAT CAME AFTER THIS BACKUP ARE GONE",
    None: None,
}


def _checked(entry: BackupEntry, times: text.Times) -> str:
    if entry.verified is None:
        return "never"
    how = {"digests": "its digests", "records": "every record"}.get(entry.checked or "", "")
    return f"{times.with_zone(entry.verified)}, {how}".rstrip(", ")

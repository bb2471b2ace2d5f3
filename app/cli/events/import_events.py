"""`flask events import`: imports a file of any size; the same command goes on where it was interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import orjson

from app.cli import exits, text
from app.cli.connection import current_connection, current_store
from app.cli.events.import_file import ImportFile, open_input
from app.cli.events.import_text import SHOWN_KINDS, describe, describe_reject, imported_json, reject_json
from app.cli.events.lines import escaped
from app.cli.options import json_option, require_file_place
from app.cli.watching import display
from app.store_retry import retry_while_store_is_away
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import OutcomeUnknown, TooBusy, TooLarge, WriteFailed
from eventvault.events.event import EventDraft
from eventvault.exit_statuses import INTERRUPTED, PARTLY
from eventvault.imports import mapping as mappings
from eventvault.imports.drafts import drafts_of
from eventvault.imports.importer import Imported, Importer
from eventvault.imports.mapping import Mapping
from eventvault.imports.notes import Notes
from eventvault.imports.reading import FORMATS, Form
from eventvault.imports.rejects import Rejected
from eventvault.operations.operation import Progress
from eventvault.store.ports.store import Store

SHOWN_EVENTS = 3
LONGEST_NAME = 200
MOST_MAPPING_BYTES = 2**20
_AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before each further try of an append that failed for a passing reason."""


@click.command("import")
@click.argument("file")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: by the first bytes.")
@click.option("--map", "mapping", metavar="MAPPING", help="CSV: type=kind,data.total:number=amount, or @mapping.json.")
@click.option("--delimiter", help="CSV: what separates cells. Default: by the header.")
@click.option("--name", help="Of the import, under which it goes on. Default: by the first MB of the file.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Write the lines that are rejected to this file.")
@click.option("--dry-run", is_flag=True, help=f"Show {SHOWN_EVENTS} events as they would be, and import nothing.")
@json_option
def import_events(
    *,
    file: str,
    kind: str | None,
    mapping: str | None,
    delimiter: str | None,
    name: str | None,
    rejects: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import events from FILE, or - for standard input: NDJSON, CloudEvents, or CSV.

    gzip and zstd are noticed. Interrupted, the same command goes on where it was; nothing is stored twice.

    Exit: 8 some lines were rejected, and all others are in.
    """
    with exits.reporting_errors(as_json=as_json):
        form = Form(kind, None if mapping is None else _mapping(mapping), _delimiter(delimiter))
        with open_input(file) as source_file:
            source = ImportFile(source_file, form, _checked_name(name), current_connection().max_body_bytes)
            if dry_run:
                _show(source, as_json=as_json)
                return
            if rejects is not None:
                require_file_place(rejects, "nothing was imported")
            imported = _run(source, rejects, quiet=as_json)
    exits.print_result(imported_json(imported, rejects), lambda _: describe(imported, rejects), as_json=as_json)
    if imported.rejected or imported.broken:
        raise SystemExit(PARTLY)


class _RetryingStore:
    """The store, with appends that are tried again: each event has an id, so none is stored twice."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        """Append the events, in halves where a service on another machine takes less in one request."""
        try:
            return self._append(drafts)
        except TooLarge:
            if len(drafts) == 1:
                raise
        half = len(drafts) // 2
        first, second = self.append(drafts[:half]), self.append(drafts[half:])
        return AppendResult(first.results + second.results, second.last_sequence)

    def _append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        for seconds in _AGAIN_SECONDS:
            with suppress(OutcomeUnknown, WriteFailed, TooBusy):
                return retry_while_store_is_away(lambda: self._store.append(drafts))
            time.sleep(seconds)
        return retry_while_store_is_away(lambda: self._store.append(drafts))

    def scan(self, query: ScanQuery) -> Page:
        return retry_while_store_is_away(lambda: self._store.scan(query))


def _run(source: ImportFile, rejects: Path | None, *, quiet: bool) -> Imported:
    notes = Notes(current_connection().imports_folder)
    began = time.monotonic()
    with display("Importing", quiet=quiet) as show:
        importer = Importer(
            _RetryingStore(current_store()),
            notes,
            source,
            None if rejects is None else rejects.resolve(),
            lambda events: show(_progress(source, events, max(time.monotonic() - began, 0.001))),
        )
        try:
            return importer.run()
        except KeyboardInterrupt:
            done = text.counted(importer.events, "event")
            click.echo(f"\nInterrupted: {done} of it are in. The same command goes on there.", err=True)
            sys.exit(INTERRUPTED)


def _progress(source: ImportFile, events: int, passed: float) -> Progress:
    """Return the progress of a run that has imported so many events in so many seconds."""
    share = source.read_bytes / source.size if source.size else 0.0
    return Progress(
        fraction=min(share, 1.0),
        step=f"{events:,} events, {round(events / passed):,}/s",
        bytes_done=source.read_bytes,
        bytes_total=source.size,
        remaining_seconds=passed * (1 - share) / share if 0 < share < 1 else None,
    )


def _mapping(written: str) -> Mapping:
    if not written.startswith("@"):
        return mappings.parse(written)
    with open_input(written[1:]) as file:
        return mappings.parse_file(file.read(MOST_MAPPING_BYTES))


def _delimiter(written: str | None) -> str | None:
    delimiter = "\t" if written in ("tab", "\\t") else written
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise click.BadParameter("one character, or tab", param_hint="--delimiter")
    return delimiter


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not name.isprintable() or not 0 < len(name) <= LONGEST_NAME):
        raise click.BadParameter(
            f"1 to {LONGEST_NAME} characters, none of them a control character", param_hint="--name"
        )
    return name


def _show(source: ImportFile, *, as_json: bool) -> None:
    """Print the first events as they would be stored, and the rejected lines before them."""
    bodies: list[bytes] = []
    rejected: list[Rejected] = []
    for record in source.records():
        result = drafts_of([record], source.name)
        bodies += [draft.body for draft in result.drafts]
        rejected += result.rejected[: SHOWN_KINDS - len(rejected)]
        if len(bodies) == SHOWN_EVENTS:
            break
    if as_json:
        lines = [reject_json(reject) for reject in rejected]
        shown = {"events": [orjson.Fragment(body) for body in bodies], "rejected": lines, "name": source.name}
        exits.print_result(shown, str, as_json=True)
        return
    for reject in rejected:
        click.echo(describe_reject(reject.record.line, reject.code, reject.error), err=True)
    for body in bodies:
        click.echo(escaped(body).decode())
    click.echo("Nothing was imported: these are the first events as they would be stored.", err=True)

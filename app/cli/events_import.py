"""`flask events import`: a file of events, of any size, which goes on where it was interrupted."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
import orjson

from app.cli import exits, text
from app.cli.connection import current_store, present
from app.cli.event_text import escaped
from app.cli.options import json_option
from app.cli.watching import display
from app.error_codes import ANSWERS
from app.store_retry import retry_while_store_is_away
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import InvalidInput, OutcomeUnknown, TooBusy, TooLarge, WriteFailed
from eventvault.events.event import EventDraft
from eventvault.imports import mapping as mappings
from eventvault.imports.drafts import drafts_of
from eventvault.imports.importer import Imported, Importer, digest_of
from eventvault.imports.mapping import Mapping
from eventvault.imports.notes import Notes
from eventvault.imports.reading import FORMATS, Form, read_records
from eventvault.imports.record import Record
from eventvault.imports.rejects import Rejected
from eventvault.imports.source import Source
from eventvault.operations.operation import Progress
from eventvault.printable import printable
from eventvault.store.ports.store import Store

SHOWN_EVENTS = 3
_NTH = ("first", "second", "third", "fourth", "fifth")
SHOWN_KINDS = len(_NTH)
LONGEST_NAME = 200
MOST_MAPPING_BYTES = 2**20
_AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait before an append is tried again that failed for a reason that passes."""


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
        with _open(file) as opened:
            source = ImportFile(opened, form, _checked_name(name), present().max_body_bytes)
            if dry_run:
                _show(source, as_json=as_json)
                return
            imported = _run(source, rejects, quiet=as_json)
    exits.print_result(_as_json(imported, rejects), lambda _: _describe(imported, rejects), as_json=as_json)
    if imported.rejected or imported.broken:
        raise SystemExit(exits.PARTLY_STATUS)


class ImportFile:
    """The file of an import, as `eventvault.imports.importer.Input` has it."""

    def __init__(self, file: BinaryIO, form: Form, name: str | None, longest: int) -> None:
        self._file = file
        self._form = form
        self._longest = longest
        self._source: Source | None = Source(file)
        self._read: Source = self._source
        self.size = _size(file)
        self.rewindable = self.size is not None
        self.name = name or self._source.digest[:16]
        self.form = digest_of(form)

    @property
    def read_bytes(self) -> int:
        return self._read.read_bytes

    def records(self) -> Iterator[Record]:
        if self._source is None:
            self._file.seek(0)
            self._source = Source(self._file)
        self._read, self._source = self._source, None
        return read_records(self._read, self._form, self._longest)

    def broken(self) -> str | None:
        return self._read.broken


def _size(file: BinaryIO) -> int | None:
    """Return the size of a regular file; None for a pipe and the like, which is read once."""
    with suppress(OSError):
        status = os.fstat(file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    return None


class _Present:
    """The store, with appends that are tried again: each event has an id, so none lands twice."""

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
    notes = Notes(present().imports_folder)
    began = time.monotonic()
    with display("Importing", quiet=quiet) as show:
        importer = Importer(
            _Present(current_store()),
            notes,
            source,
            None if rejects is None else rejects.absolute(),
            lambda events: show(_progress(source, events, max(time.monotonic() - began, 0.001))),
        )
        try:
            return importer.run()
        except KeyboardInterrupt:
            done = text.counted(importer.events, "event")
            click.echo(f"\nInterrupted: {done} of it are in. The same command goes on there.", err=True)
            sys.exit(exits.INTERRUPTED_STATUS)


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


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    """Open the file without a buffer, so that a pipe is read as it comes. Raises InvalidInput."""
    if file == "-":
        yield getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        return
    try:
        opened = Path(file).open("rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read: {error.strerror}", hint="name a file, or - for standard input"
        ) from None
    with opened:
        yield opened


def _mapping(written: str) -> Mapping:
    if not written.startswith("@"):
        return mappings.parse(written)
    with _open(written[1:]) as file:
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
    """Print the first events as they would be stored, and what is rejected in front of them."""
    bodies: list[bytes] = []
    rejected: list[Rejected] = []
    for record in source.records():
        found = drafts_of([record], source.name)
        bodies += [draft.body for draft in found.drafts]
        rejected += found.rejected[: SHOWN_KINDS - len(rejected)]
        if len(bodies) == SHOWN_EVENTS:
            break
    if as_json:
        lines = [_reject_json(each) for each in rejected]
        shown = {"events": [orjson.Fragment(body) for body in bodies], "rejected": lines, "name": source.name}
        exits.print_result(shown, str, as_json=True)
        return
    for each in rejected:
        click.echo(_describe_reject(each.record.line, each.code, each.error), err=True)
    for body in bodies:
        click.echo(escaped(body).decode())
    click.echo("Nothing was imported: these are the first events as they would be stored.", err=True)


def _as_json(imported: Imported, rejects: Path | None) -> dict[str, Any]:
    return {
        "name": imported.name,
        "events": imported.new + imported.already,
        "new": imported.new,
        "already": imported.already,
        "rejected": imported.rejected,
        "rejects": None if rejects is None else str(rejects),
        "kinds": msgspec.to_builtins(imported.kinds),
        "resumedAt": imported.resumed or None,
        "broken": imported.broken,
    }


def _reject_json(each: Rejected) -> dict[str, Any]:
    return {"line": each.record.line, "code": each.code, "error": each.error}


def _describe(imported: Imported, rejects: Path | None) -> str:
    events = imported.new + imported.already
    are = "is" if events == 1 else "are"
    lines = [
        f"{text.counted(events, 'event')} {are} in: {imported.new:,} new, {imported.already:,} there already."
        f"{_describe_rejects(imported, rejects)}"
    ]
    if imported.resumed:
        lines.insert(0, f"An earlier run had done everything up to line {imported.resumed:,}.")
    lines += [_describe_reject(kind.line, kind.code, kind.error) for kind in imported.kinds[:SHOWN_KINDS]]
    if others := _describe_others(imported):
        lines.append(others)
    if imported.broken:
        lines.append(f"The input is not whole: {printable(imported.broken)}. What came before is in.")
    return "\n".join(lines)


def _describe_rejects(imported: Imported, rejects: Path | None) -> str:
    if not imported.rejected:
        return ""
    where = printable(str(rejects)) if rejects is not None else "--rejects FILE writes them to a file"
    verb = "line was" if imported.rejected == 1 else "lines were"
    return f" {imported.rejected:,} {verb} rejected: {where}."


def _describe_reject(line: int, code: str, error: str) -> str:
    answer = ANSWERS.get(code)
    status = answer.status if answer is not None else ""
    return f"  line {line:<12,} {status}  {printable(error)}"


def _describe_others(imported: Imported) -> str:
    """Return how many more rejects there are of each kind that is shown."""
    parts = list[str]()
    for name, kind in zip(_NTH, imported.kinds, strict=False):
        if kind.count > 1:
            parts.append(f"{kind.count - 1:,}{' of' if parts else ' more of'} the {name}{'' if parts else ' kind'}")
    others = imported.rejected - sum(kind.count for kind in imported.kinds[:SHOWN_KINDS])
    if others:
        parts.append(f"{others:,} {'other' if others == 1 else 'others'}")
    return f"  {', '.join(parts)}." if parts else ""

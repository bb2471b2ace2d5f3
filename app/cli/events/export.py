"""`flask events export`: writes the events of any moment, filtered or all, one per line."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click
from isal import isal_zlib

from app.cli import exits, text
from app.cli.connection import current_connection, current_store
from app.cli.events.lines import flush, json_line, write
from app.cli.events.pages import EventFilter, EventPage, as_of_option, event_pages, filter_options, read_ahead, resolve
from app.cli.options import json_option, require_file_place
from app.cli.watching import display
from eventvault.audit.deeds import Deed
from eventvault.errors import OutputExists
from eventvault.files import durable_file
from eventvault.gzip_format import WBITS
from eventvault.imports.zstandard import zstd
from eventvault.operations.operation import Progress
from eventvault.past.values import PastView
from eventvault.printable import printable
from eventvault.restore.values import Moment

STANDARD_OUTPUT = "-"
_OTHERWISE = "name another file with -o, or add --overwrite"
_GZIP_LEVEL, _ZSTD_LEVEL = 1, 3


class Compressor(Protocol):
    """The methods that the compressors of gzip and zstd share."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


@click.command("export")
@click.option(
    "-o", "--output", default=STANDARD_OUTPUT, help="The file to write, or - for standard output, as by default."
)
@filter_options
@as_of_option
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@json_option
def export(*, output: str, as_of: Moment | None, overwrite: bool, as_json: bool, **filters: Any) -> None:
    """Write events as JSON lines. The end of the file's name compresses it: .gz or .zst.

    A file has its name once it is whole.
    """
    wanted = EventFilter.of(filters)
    with exits.reporting_errors(as_json=as_json):
        view = resolve(current_store(), as_of)
        if output == STANDARD_OUTPUT:
            to_standard_output(view, wanted)
            return
        path = Path(output).resolve() if Path(output).is_symlink() else Path(output)
        done = to_file(path, view, wanted, replace=overwrite, quiet=as_json, otherwise=_OTHERWISE)
    exits.print_result(done, describe_file, as_json=as_json)


@contextmanager
def _exporting(view: PastView, wanted: EventFilter) -> Iterator[tuple[Iterator[EventPage], Deed]]:
    """Yield all pages of a moment, and the deed that the audit has of their export."""
    store, query = current_store(), wanted.at(view)
    with (
        current_connection().exporting(f"#{query.after + 1} to #{query.upto}") as deed,
        read_ahead(event_pages(store, view, wanted)) as pages,
    ):
        deed.results["bytes"] = 0
        yield pages, deed


def to_standard_output(view: PastView, wanted: EventFilter) -> None:
    with _exporting(view, wanted) as (pages, deed):
        for page in pages:
            if page.events:
                lines = b"\n".join(map(json_line, page.events)) + b"\n"
                write(lines)
                deed.results["bytes"] += len(lines)
        flush()


def require_place(path: Path, *, replace: bool, otherwise: str) -> None:
    """Raise InvalidInput or OutputExists before anything is read. otherwise: what to do if the file is there."""
    require_file_place(path, "nothing was written")
    if path.exists() and not replace:
        raise _exists(path, otherwise)


def _exists(path: Path, otherwise: str) -> OutputExists:
    return OutputExists(f"{path} exists, and nothing was written", hint=otherwise)


def to_file(
    path: Path, view: PastView, wanted: EventFilter, *, replace: bool, quiet: bool, otherwise: str
) -> dict[str, Any]:
    """Write events into a file, which has its name once it is whole. Raises as `require_place` does, and NoSpace."""
    require_place(path, replace=replace, otherwise=otherwise)
    began = time.monotonic()
    try:
        with (
            _exporting(view, wanted) as (pages, deed),
            display("Exporting", quiet=quiet) as show,
            durable_file(path, replace=replace) as file,
        ):
            packed = _PackedFile(file, _compressor(path.name))
            for page in pages:
                packed.put(page.events)
                deed.results["bytes"] = packed.size
                show(_progress(packed.events, page.share, time.monotonic() - began))
            packed.finish()
            deed.results["bytes"] = packed.size
    except FileExistsError:
        raise _exists(path, otherwise) from None
    return {
        "path": str(path),
        "events": packed.events,
        "bytes": packed.lines,
        "size": packed.size,
        "sha256": packed.digest.hexdigest(),
        "lastSequence": view.sequence,
        "generation": view.generation_id,
    }


def _progress(events: int, share: float, passed: float) -> Progress:
    remaining = passed * (1 - share) / share if 0 < share < 1 else None
    return Progress(share, f"{events:,} events, {round(events / max(passed, 0.001)):,}/s", remaining_seconds=remaining)


class _PackedFile:
    """Writes events as lines into a file. compressor: None for plain lines. lines, size: bytes before and after it."""

    def __init__(self, file: BinaryIO, compressor: Compressor | None) -> None:
        self._file = file
        self._compressor = compressor
        self.digest = hashlib.sha256()
        self.events = self.lines = self.size = 0

    def put(self, events: list[bytes]) -> None:
        if events:
            content = b"\n".join(events) + b"\n"
            self.events += len(events)
            self.lines += len(content)
            self._write(content if self._compressor is None else self._compressor.compress(content))

    def finish(self) -> None:
        if self._compressor is not None:
            self._write(self._compressor.flush())

    def _write(self, content: bytes) -> None:
        self.digest.update(content)
        self.size += self._file.write(content)


def _compressor(name: str) -> Compressor | None:
    """Return the compressor for a file of this name; None if the name asks for none."""
    if name.endswith(".gz"):
        gzip: Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, WBITS)
        return gzip
    if name.endswith((".zst", ".zstd")):
        frame: Compressor = zstd().ZstdCompressor(level=_ZSTD_LEVEL)
        return frame
    return None


def describe_file(done: dict[str, Any]) -> str:
    return f"{printable(done['path'])}  {text.counted(done['events'], 'event')}, {text.size(done['size'])}"

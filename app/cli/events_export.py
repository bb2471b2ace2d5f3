"""`flask events export`: the events of any moment, filtered or all, one per line."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click
from isal import isal_zlib

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.event_pages import EventFilter, as_of_option, event_pages, filter_options, read_ahead, resolve
from app.cli.event_text import flush, json_line, write
from app.cli.options import json_option, require_file_place
from app.cli.watching import display
from eventvault.errors import OutputExists
from eventvault.files import durable_file
from eventvault.imports.zstandard import zstd
from eventvault.operations.operation import Progress
from eventvault.past.values import PastView
from eventvault.printable import printable
from eventvault.restore.values import Moment

STANDARD_OUTPUT = "-"
_GZIP = 31
"""zlib's `wbits` for a gzip member."""
_GZIP_LEVEL, _ZSTD_LEVEL = 1, 3


class Compressor(Protocol):
    """What the compressors of gzip and zstd have."""

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
            _to_standard_output(view, wanted)
            return
        path = Path(output).resolve() if Path(output).is_symlink() else Path(output)
        _require_place(path, overwrite=overwrite)
        done = _to_file(path, view, wanted, replace=overwrite, quiet=as_json)
    exits.print_result(done, _describe, as_json=as_json)


def _to_standard_output(view: PastView, wanted: EventFilter) -> None:
    with read_ahead(event_pages(current_store(), view, wanted)) as pages:
        for page in pages:
            if page.events:
                write(b"\n".join(map(json_line, page.events)) + b"\n")
    flush()


def _require_place(path: Path, *, overwrite: bool) -> None:
    """Raise InvalidInput or OutputExists before anything is read."""
    require_file_place(path, "nothing was written")
    if path.exists() and not overwrite:
        raise _exists(path)


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"{path} exists, and nothing was written", hint="name another file with -o, or add --overwrite")


def _to_file(path: Path, view: PastView, wanted: EventFilter, *, replace: bool, quiet: bool) -> dict[str, Any]:
    began = time.monotonic()
    try:
        with (
            display("Exporting", quiet=quiet) as show,
            durable_file(path, replace=replace) as file,
            read_ahead(event_pages(current_store(), view, wanted)) as pages,
        ):
            packed = _Packed(file, _compressor(path.name))
            for page in pages:
                packed.put(page.events)
                show(_progress(packed.events, page.share, time.monotonic() - began))
            packed.finish()
    except FileExistsError:
        raise _exists(path) from None
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


class _Packed:
    """Writes events as lines into a file. compressor: None: as they are. lines, size: bytes before and behind it."""

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
    """Return what compresses a file of this name; None if its name says nothing of compression."""
    if name.endswith(".gz"):
        gzip: Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP)
        return gzip
    if name.endswith((".zst", ".zstd")):
        frame: Compressor = zstd().ZstdCompressor(level=_ZSTD_LEVEL)
        return frame
    return None


def _describe(done: dict[str, Any]) -> str:
    return f"{printable(done['path'])}  {text.counted(done['events'], 'event')}, {text.size(done['size'])}"

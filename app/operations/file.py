"""Answers with the file of an export, or a range of it, as lines or compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec
from flask import Response, request
from isal import isal_zlib
from werkzeug.wsgi import FileWrapper

from app.backup.download import CHUNK, wants_one_range
from app.deeds import audit_download
from app.edge import Edge
from app.request_end import at_request_end
from app.streaming import NDJSON, attachment
from eventvault.errors import ExportNotFound
from eventvault.gzip_format import WBITS
from eventvault.operations.entry import OperationEntry
from eventvault.past.values import Exported
from eventvault.regular_files import open_file


def file_reply(edge: Edge, operation: OperationEntry) -> Response:
    """Answer with the events of an export, one per line, or with a range of these bytes.

    A client that takes gzip gets the file as it is; a range is then a range of the compressed bytes (RFC 9110, 8.4).
    Raises ExportNotFound, TooBusy or RequestedRangeNotSatisfiable.
    """
    release = edge.transfers.acquire()
    resources = ExitStack()
    resources.callback(release)
    at_request_end(resources.close)
    try:
        file = resources.enter_context(open_file(Path(edge.store.export_path(operation.id))))
        return audit_download(_reply(file, _result_of(operation), resources.close), f"operation {operation.id}")
    except BaseException:
        resources.close()
        raise


def _result_of(operation: OperationEntry) -> Exported:
    if operation.kind != "export" or operation.result is None:
        raise ExportNotFound(
            f"the operation {operation.id} has no file: it is {operation.state}", hint="wait until it has succeeded"
        )
    return msgspec.json.decode(operation.result, type=Exported)


def _reply(file: BinaryIO, exported: Exported, close: Callable[[], None]) -> Response:
    packed = request.accept_encodings.quality("gzip") > 0 and bool(request.accept_encodings)
    length = exported.size if packed else exported.lines
    response = Response(FileWrapper(file, CHUNK) if packed else _inflate(file), content_type=NDJSON)
    response.call_on_close(close)
    response.content_length = length
    response.set_etag(exported.sha256 if packed else f"{exported.sha256}-lines")
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Disposition"] = attachment(f"events-{exported.operation}.ndjson")
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["X-Accel-Buffering"] = "no"
    response.make_conditional(request, accept_ranges=wants_one_range() and "bytes", complete_length=length)
    return response


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    inflater = isal_zlib.decompressobj(WBITS)
    while not inflater.eof:
        piece = inflater.unconsumed_tail or file.read(CHUNK)
        if not piece:
            return
        if text := inflater.decompress(piece, CHUNK):
            yield text

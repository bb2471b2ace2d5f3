"""Downloads an archive, or a range of it, and locks it against rotation meanwhile."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from app.deeds import audit_download
from app.edge import Edge
from app.request_end import at_request_end
from app.streaming import attachment
from eventvault.archive.locks import shared_lock
from eventvault.backups.entry import BackupEntry
from eventvault.damage import advice
from eventvault.errors import ArchiveUnreadable, BackupNotFound
from eventvault.files import names_open_file

CHUNK = 256 * 1024

_RANGE = re.compile(r"bytes *= *(?P<first>[0-9]{0,20})-(?P<last>[0-9]{0,20}) *", re.ASCII | re.IGNORECASE)


def download(edge: Edge, name: str) -> Response:
    """Answer with the archive's bytes. Raises BackupNotFound, TooBusy or RequestedRangeNotSatisfiable."""
    release = edge.transfers.acquire()
    resources = ExitStack()
    resources.callback(release)
    at_request_end(resources.close)
    try:
        handle = resources.enter_context(_open(Path(edge.store.backup_path(name))))
        file = resources.enter_context(os.fdopen(handle, "rb", closefd=False))
        entry = _entry(edge, name)
        if entry is not None and not names_open_file(Path(entry.path), handle):
            entry = None  # another file has the name by now
        return audit_download(_reply(file, name, entry, resources.close), name)
    except BaseException:
        resources.close()
        raise


def _entry(edge: Edge, name: str) -> BackupEntry | None:
    with suppress(BackupNotFound):
        return edge.store.backup_entry(name)
    return None


@contextmanager
def _open(path: Path) -> Iterator[int]:
    """Open the archive under a shared lock. Raises BackupNotFound, or ArchiveUnreadable, as a verification does."""
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(shared_lock(path))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise ArchiveUnreadable(f"opening the archive {path} failed: {why}", hint=advice(error)) from error
        yield handle


def _reply(file: BinaryIO, name: str, entry: BackupEntry | None, close: Callable[[], None]) -> Response:
    """entry: of this file; None if it is not in the catalogue any more."""
    status = os.fstat(file.fileno())
    checksum, sha256 = (entry.checksum, entry.sha256) if entry is not None else (None, None)
    response = Response(FileWrapper(file, CHUNK), content_type="application/gzip")
    response.call_on_close(close)
    response.content_length = status.st_size
    response.last_modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
    response.set_etag(checksum or f"{status.st_size:x}-{status.st_mtime_ns:x}")
    response.headers["Content-Disposition"] = attachment(name)
    if sha256 is not None:
        response.headers["Repr-Digest"] = f"sha-256=:{b64encode(bytes.fromhex(sha256)).decode()}:"  # RFC 9530
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Accept-Ranges"] = "bytes"  # tells browsers that they can resume
    response.headers["X-Accel-Buffering"] = "no"
    response.make_conditional(request, accept_ranges=wants_one_range() and "bytes", complete_length=status.st_size)
    return response


def wants_one_range() -> bool:
    """Return whether `Range` asks for exactly one valid range of bytes. Otherwise the answer is the whole file.

    RFC 9110, section 14.2: other units and invalid ranges are ignored, and several ranges may be ignored.
    """
    bounds = _RANGE.fullmatch(request.headers.get("Range", ""))
    if bounds is None or not (bounds["first"] or bounds["last"]):
        return False
    return not (bounds["first"] and bounds["last"]) or int(bounds["first"]) <= int(bounds["last"])

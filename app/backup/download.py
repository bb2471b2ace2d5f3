"""An archive on its way out: whole or a range of it, held against rotation while it is being sent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from app.edge import Edge
from eventvault.errors import BackupNotFound
from eventvault.store.interface import Store

CHUNK = 256 * 1024


def download(edge: Edge, name: str) -> Response:
    """Raises BackupNotFound, TooBusy, or RequestedRangeNotSatisfiable."""
    release = edge.long_lived.take()
    file: BinaryIO | None = None
    try:
        file = _held(edge.store, name)
        return _reply(file, name, _sha256(edge.store, name), release)
    except BaseException:
        release()
        if file is not None:
            file.close()
        raise


def _held(store: Store, name: str) -> BinaryIO:
    """The archive, opened under a shared lock: what is being read is not removed. The lock goes with the file."""
    gone = BackupNotFound(f"the backup {name!r} was removed just now", hint="GET /api/backup/list names what is there")
    try:
        file = Path(store.backup_path(name)).open("rb")  # noqa: SIM115  # closed with the response
    except FileNotFoundError:
        raise gone from None
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.fstat(file.fileno()).st_nlink == 0:
        file.close()
        raise gone
    return file


def _sha256(store: Store, name: str) -> str | None:
    return next((entry.sha256 for entry in store.list_backups() if entry.name == name), None)


def _reply(file: BinaryIO, name: str, sha256: str | None, release: Callable[[], None]) -> Response:
    found = os.fstat(file.fileno())
    response = Response(FileWrapper(file, CHUNK), content_type="application/gzip")
    response.call_on_close(file.close)
    response.call_on_close(release)
    response.content_length = found.st_size
    response.last_modified = datetime.fromtimestamp(int(found.st_mtime), UTC)
    response.set_etag(sha256 or f"{found.st_size:x}-{found.st_mtime_ns:x}")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    response.make_conditional(request, accept_ranges=_one_range(), complete_length=found.st_size)
    return response


def _one_range() -> bool | str:
    """RFC 9110, section 14.2: a server may ignore `Range`; several ranges at once are answered with the whole file."""
    return "," not in request.headers.get("Range", "") and "bytes"

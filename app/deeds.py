"""Writes to the audit which downloads and exports this process sends, and how they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from flask import Response, request

from app.edge import current_edge
from eventvault.audit.lines import DONE, INTERRUPTED
from eventvault.database.values import ScanQuery
from eventvault.operations.caller import current_caller
from eventvault.store.audited import DOWNLOAD, EXPORT, STREAMED


def audit_download(response: Response, target: str) -> Response:
    """Record the download of a file, or of a range of it. An answer without bytes of the file is not recorded."""
    if request.method != "GET" or response.status_code not in (200, 206):
        return response
    content_range = response.headers.get("Content-Range")
    return _audit(response, DOWNLOAD, target, {} if content_range is None else {"range": content_range})


def audit_export(response: Response, query: ScanQuery) -> Response:
    """Record an export that is sent while it is read."""
    if request.method not in ("GET", "POST"):
        return response
    upto = "now" if query.upto is None else f"#{query.upto}"
    return _audit(response, EXPORT, f"#{query.after + 1} to {upto}", {STREAMED: True})


def _audit(response: Response, action: str, target: str, details: dict[str, Any]) -> Response:
    deed = current_edge().deeds.begin(action, current_caller().started_by, target, details=details)
    sent = _ByteCounter(cast(Iterable[bytes], response.response))
    response.response = sent
    length = response.content_length

    def end() -> None:
        is_whole = sent.has_ended if length is None else sent.count == length
        deed.end(DONE if is_whole else INTERRUPTED, bytes=sent.count)

    response.call_on_close(end)
    return response


class _ByteCounter:
    """Counts the bytes of an answer while they are sent."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.count = 0
        self.has_ended = False
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield piece
            self.count += len(piece)
        self.has_ended = True

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

"""Sends and fetches archives in constant memory, and continues a download where a connection broke off."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Self

from app.cli.remote import errors
from app.cli.remote.calls import path_of_backup
from app.cli.remote.connection import FAILURES, PIECE, HttpAnswer
from app.cli.remote.transport import Request, Transport, get, reason_of
from eventvault.errors import ArchiveDamaged, InvalidInput
from eventvault.regular_files import open_handle

_GZIP = "application/gzip"
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_RANGE = re.compile(r"bytes ([0-9]{1,20})-[0-9]{1,20}/[0-9]{1,20}")


def upload_request(path: str, name: str, sent: Callable[[int], None] = lambda _: None) -> Request:
    """Return the request that sends a file; it may be sent again from its first byte. Raises OSError."""
    with os.fdopen(open_handle(path, follow=True), "rb") as file:
        status = os.fstat(file.fileno())
    request = Request("POST", "/api/backup/upload", {"name": name}, lambda: _pieces(path, status, sent), status.st_size)
    return request.with_headers(Content_Type=_GZIP)


def _pieces(path: str, wanted: os.stat_result, sent: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the file. Raises InvalidInput if it was replaced or written to meanwhile."""
    with os.fdopen(open_handle(path, follow=True), "rb") as file:
        done = 0
        while done < wanted.st_size and (piece := file.read(min(PIECE, wanted.st_size - done))):
            done += len(piece)
            yield piece
            sent(done)
        status = os.fstat(file.fileno())
    if done < wanted.st_size or (status.st_size, status.st_mtime_ns) != (wanted.st_size, wanted.st_mtime_ns):
        raise InvalidInput(f"{path} was changed while it was sent; nothing was taken in", hint="send it again")


class Download:
    """A file object for the bytes of an archive. At its end they are compared with the checksum that the service sent.

    size: how many bytes it has, once the first piece was read.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.name = name
        self.size: int | None = None
        self._transport = transport
        self._path = path_of_backup(name, "download")
        self._hash = hashlib.sha256()
        self._sha256 = b""
        self._tag = ""
        self._done = 0
        self._rest = b""
        self._content = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()  # type: ignore[attr-defined]

    def read(self, size: int = PIECE) -> bytes:
        """Return at most `size` bytes; empty at the end. Raises EventVaultError."""
        if not self._rest:
            self._rest = next(self._content, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _read(self) -> Iterator[bytes]:
        while True:
            before = self._done
            try:
                with self._transport.stream(self._request()) as answer:
                    self._begin(answer)
                    for piece in answer.pieces():
                        self._done += len(piece)
                        self._hash.update(piece)
                        yield piece
                break
            except FAILURES as error:
                if self._done == before or not self._tag:
                    what = f"{self.name} was copied, at byte {self._done:,}"
                    raise errors.cut_off(self._transport.address, what, reason_of(error)) from None
        if self._sha256 and self._hash.digest() != self._sha256:
            raise ArchiveDamaged(
                f"the copy of {self.name} is not what the service has: its SHA-256 differs; nothing was kept",
                hint="copy it again; if it differs again, something on the way changes it",
            )

    def _request(self) -> Request:
        request = get(self._path)
        if not self._done:
            return request
        return request.with_headers(Range=f"bytes={self._done}-", If_Range=self._tag)

    def _begin(self, answer: HttpAnswer) -> None:
        """Check that an answer goes on with the file that was begun."""
        if answer.length is None:
            raise errors.unreadable(f"GET {self._path}", "it does not say how long the archive is")
        if self.size is None:
            self.size = answer.length
            tag = answer.header("ETag")
            self._tag = "" if tag.startswith("W/") else tag
            digest = _SHA256.search(answer.header("Repr-Digest"))
            self._sha256 = b"" if digest is None else base64.b64decode(digest[1])
            return
        place = _RANGE.fullmatch(answer.header("Content-Range"))
        continued = place is not None and int(place[1]) == self._done and answer.status == 206
        if not continued or self._done + answer.length != self.size:
            raise errors.cut_off(
                self._transport.address, f"{self.name} was copied", "it is another file by now, so the copy was dropped"
            )

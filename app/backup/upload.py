"""Uploads an archive: streams it to a temporary file in `backups/` and syncs it; then the store checks it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from flask import Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData

from app.backup.schemas import upload_name
from app.backup.upload_file import hand_over, temporary_upload
from app.bodies import CHUNK, read_some
from app.edge import Edge
from app.idempotency import content_of_file
from app.keyed_answers import ClaimedKey, claim_key
from eventvault import json_text
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation_folder import check_unchanged
from eventvault.errors import BackupExists, BackupNotFound, MalformedInput
from eventvault.operations.caller import current_caller
from eventvault.store.ports.store import Store

_FORM = "multipart/form-data"
_FIELD = "file"
_SEND_AS_CURL = f"send it as curl -F {_FIELD}=@backup.tar.gz does"
_FILENAME = re.compile(r';\s*filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


def receive_upload(edge: Edge) -> BackupEntry | Response:
    """Store the archive of the current request, and return its entry in the catalogue.

    A request that is repeated with its `Idempotency-Key` gets the first answer; its archive is read and not stored. If
    anything fails, a disconnected client included, no file remains. Raises InvalidInput for a bad name,
    BackupExists, NoSpace, MalformedInput, TooBusy, or an ArchiveError.
    """
    key = claim_key()
    earlier = key.earlier() if key is not None else None
    if key is not None and earlier is not None and earlier.status:
        return _answer_again(edge, key)
    form = _is_form()
    free_name = partial(_check_free_name, edge.store) if earlier is None else upload_name
    name_in_query = None if form and "name" not in request.args else free_name(request.args.get("name"))
    release = edge.transfers.acquire()
    try:
        check_unchanged(edge.settings)
        with temporary_upload(edge.settings.backup_dir) as (path, file):
            chunks, name = _read_form(name_in_query, free_name) if form else (_chunks(), name_in_query)
            size, digest = _write(file, chunks)
            answer = key.begin(content_of_file(name or "", size, digest)) if key is not None else None
            return answer or _adopt(edge.store, path, name or "")
    finally:
        release()


def _answer_again(edge: Edge, key: ClaimedKey) -> Response:
    """Return the first answer if the archive is the same. Raises IdempotencyKeyReused."""
    release = edge.transfers.acquire()
    try:
        name = request.args.get("name")
        parts = _Parts(_boundary()) if _is_form() else None
        if parts is not None:
            filename = parts.find_file()
            name = filename if name is None else name
        size, digest = _write(None, _chunks() if parts is None else parts.content())
    finally:
        release()
    answer = key.begin(content_of_file(upload_name(name), size, digest))
    assert answer is not None, "the key was answered"
    return answer


def _is_form() -> bool:
    return json_text.media_type(request.content_type)[0] == _FORM


def _check_free_name(store: Store, name: str | None) -> str:
    """Return the name if no backup has it: fail before a large body is read. The store checks it again at the end."""
    free = upload_name(name)
    try:
        store.backup_entry(free)
    except BackupNotFound:
        return free
    raise BackupExists(f"the backup {free!r} exists already", hint="choose another name with ?name=")


def _adopt(store: Store, path: Path, name: str) -> BackupEntry:
    """Let the store check the file and add it to the catalogue. The store owns the file if the client does not wait."""
    if not current_caller().asynchronous:
        return store.adopt_upload(str(path), name)
    with hand_over(path) as file:
        return store.adopt_upload(str(file), name)


def _write(file: BinaryIO | None, chunks: Iterator[bytes]) -> tuple[int, bytes]:
    """Write an upload durably; without a file it is only read. Returns its size and SHA-256."""
    size, digest = 0, hashlib.sha256()
    for chunk in chunks:
        size += len(chunk)
        digest.update(chunk)
        if file is not None:
            file.write(chunk)
    if not size:
        raise MalformedInput("the upload is empty", hint="send the archive's bytes as the body")
    if file is not None:
        file.flush()
        os.fsync(file.fileno())
    return size, digest.digest()


def _chunks() -> Iterator[bytes]:
    while chunk := read_some():
        yield chunk


def _read_form(name_in_query: str | None, free_name: Callable[[str | None], str]) -> tuple[Iterator[bytes], str]:
    """Return the bytes of the field `file` as they arrive, and the archive's name: `?name=`, or the file's own."""
    parts = _Parts(_boundary())
    filename = parts.find_file()
    return parts.content(), name_in_query or free_name(filename)


def _boundary() -> bytes:
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise MalformedInput("the form has no boundary", hint="let the client set the Content-Type header")
    return boundary.encode()


def _name_without_folders(file: File) -> str:
    """Return the file's name without its folders.

    Some clients send a Windows path without escaping it, and werkzeug drops the backslashes in it.
    """
    sent = _FILENAME.search(file.headers.get("Content-Disposition", ""))
    path = sent[1].replace(r"\"", '"') if sent and "\\" in sent[1] else file.filename or ""
    return re.split(r"[\\/]", path)[-1]


class _Parts:
    """Decodes a multipart body as it arrives, without buffering it in memory or in /tmp."""

    def __init__(self, boundary: bytes) -> None:
        self._decoder = MultipartDecoder(boundary, max_form_memory_size=CHUNK * 2, max_parts=20)

    def find_file(self) -> str:
        """Read up to the field `file` and return its file name. Raises MalformedInput if there is none."""
        event = self._next()
        while not isinstance(event, Epilogue):
            if isinstance(event, File) and event.name == _FIELD:
                return _name_without_folders(event)
            event = self._next()
        raise MalformedInput(f"the form has no file in a field {_FIELD!r}", hint=_SEND_AS_CURL)

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the field `file`, then read and drop the rest of the form."""
        event = self._next()
        while isinstance(event, Data):
            yield event.data
            if not event.more_data:
                break
            event = self._next()
        while not isinstance(event, Epilogue):
            event = self._next()

    def _next(self) -> object:
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                self._decoder.receive_data(read_some() or None)
        except (ValueError, RequestEntityTooLarge) as error:
            raise MalformedInput(
                "the form cannot be read: it ends early, its boundary is missing, or a header is not UTF-8 or too long",
                hint=_SEND_AS_CURL,
            ) from error
        return event

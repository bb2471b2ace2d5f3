"""Extracts one file from one of our archives without reading the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import reader
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.archive.stored import StoredFile
from eventvault.gzip_format import WBITS
from eventvault.regular_files import open_file

_READ_BYTES = 64 * 1024
_IsalError = cast(type[Exception], isal_zlib.error)


def extract(path: Path, name: str, size: int, target: Path) -> bool:
    """Write the file `name` of the database in an archive to the new file `target`; it is not synced.

    Returns False if the archive has no such file of this size. Raises ArchiveError if its digest is wrong, or OSError.
    """
    with open_archive(path, wait=False) as archive:
        about, stored = reader.peek_files(archive)
        records = [record for record in about.files if (record.name, record.size) == (name, size)]
        files = [file for file in stored if file.name == name]
        if not records or not files:
            return False
        missing, blake, sha = size, blake3(), hashlib.sha256()
        with open_file(target, "xb") as output:
            for content in _inflated(archive, files[0]):
                part = content[:missing]
                missing -= len(part)
                output.write(part)
                blake.update(part)
                sha.update(part)
        if missing or (blake.hexdigest() != records[0].blake3 and sha.hexdigest() != records[0].sha256):
            raise archive.damaged(f"{name} does not have the digest in the manifest", files[0].offset)
    return True


def _inflated(archive: OpenArchive, file: StoredFile) -> Iterator[bytes]:
    """Yield the content of a file's data members, with the zeros that pad the last one."""
    position, end = file.offset, file.offset + file.length
    inflater = isal_zlib.decompressobj(WBITS)
    while position < end:
        packed = archive.read_at(position, min(_READ_BYTES, end - position))
        position += len(packed)
        while packed:
            try:
                yield inflater.decompress(packed)
            except _IsalError as error:
                raise archive.damaged(f"a member of {file.name} cannot be inflated: {error}", position) from error
            packed = inflater.unused_data if inflater.eof else b""
            inflater = isal_zlib.decompressobj(WBITS) if inflater.eof else inflater

"""Writes archives of format 1, byte for byte as EventVault 0.1.0 wrote them; this program only reads them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from isal import isal_zlib

from eventvault.archive import layout, manifest, tar
from eventvault.archive.compression import Compression
from eventvault.archive.entries import IndexEntry
from eventvault.archive.format1.index import VERSION, Index
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import FileRecord, Manifest


def write_archive(path: Path, folder: Path, about: Manifest) -> Manifest:
    """Write the files of `folder` to the archive `path`. Returns the manifest with its files."""
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    records = [FileRecord(name, len(content), sha256=_sha256(content)) for name, content in files.items()]
    complete = msgspec.structs.replace(about, format_version=VERSION, files=records)
    made, entries = bytearray(), []
    for name, content in [(layout.FOLDER_ENTRY, b""), *((layout.FOLDER_ENTRY + n, c) for n, c in files.items())]:
        entries.append(add_entry(made, name, content, complete))
    entries.append(add_entry(made, layout.MANIFEST_NAME, _encoded(complete), complete))
    offset = len(made)
    add_entry(made, layout.INDEX_NAME, msgspec.json.encode(Index(VERSION, tuple(entries))) + b"\n", complete)
    made += layout.member(layout.END_BLOCKS)
    closing = Closing(VERSION, offset, hashlib.sha256(made).digest())
    path.write_bytes(made + layout.closing_member(closing))
    return complete


def add_entry(made: bytearray, name: str, content: bytes, about: Manifest) -> IndexEntry:
    """Append a tar entry to `made`. Returns where it lies."""
    header, data = len(made), []
    opening = layout.opening_header(VERSION) if not made else layout.PLAIN_HEADER
    made += layout.member(tar.build_header(name, len(content), about.modified), opening)
    compression: Compression = about.compression
    start = 0
    for size, zeros in layout.pieces(len(content)):
        packed = layout.member(content[start : start + size] + bytes(zeros), compression=compression)
        data.append((len(made), len(packed), isal_zlib.crc32(packed)))
        made += packed
        start += size
    return IndexEntry(name, len(content), header, tuple(data))


def _encoded(about: Manifest) -> bytes:
    """The manifest without the member that 0.1.0 did not have."""
    return manifest.encode(about).replace(b'\n "kafkaTopics": {},', b"")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""The text of an index with any entries, as the writer of an archive would encode it."""

from __future__ import annotations

from collections.abc import Iterable

from eventvault.archive.format2.index import HashedEntry, IndexWriter


def index_text(entries: Iterable[HashedEntry]) -> bytes:
    parts: list[bytes] = []
    writer = IndexWriter(parts.append)
    for entry in entries:
        writer.add(entry)
    writer.finish()
    return b"".join(parts)

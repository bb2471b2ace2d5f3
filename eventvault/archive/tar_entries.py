"""Reads the entries of any plain tar file from a stream in bounded memory, and refuses entries that no database has.

It knows ustar, GNU long names, sparse files and incremental archives, and pax headers. Sources: POSIX.1-2017 pax; GNU
tar manual, "Basic Tar Format" and "Dumpdir".
Implements the limits for foreign archives of `docs/format.md`, "How it is read".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from eventvault.archive import sparse, tar
from eventvault.archive.layout import BLOCK, padding
from eventvault.archive.manifest import MAX_FILES
from eventvault.archive.source import ArchiveBytes
from eventvault.archive.sparse import SparseMap
from eventvault.archive.unpacking import UnpackingBudget, unsafe

_MAX_EXTENSION_BYTES = 2**20
_MAX_EXTENSIONS_BYTES = 256 * 2**20
_MAX_HEADERS = 4 * MAX_FILES
_MAX_NAME_CHARS = 4096
_FILES = (b"0", b"\0", b"7")
_SPARSE, _FOLDER_DUMP = b"S", b"D"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _LABEL = b"L", b"K", (b"x", b"X"), b"g", b"V"
_REFUSED = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a named pipe",
    b"M": "a part of a file",
}  # fmt: skip


class TarEntry(NamedTuple):
    """A file or folder of the tar file.

    name: as in the header. path: its parts, without `.`. size: of the content, with the holes of a sparse file.
    """

    name: str
    path: tuple[str, ...]
    size: int
    folder: bool


@dataclass
class _Extended:
    """Values of extended headers, for the next entry. sparse: records of GNU's sparse files."""

    name: str | None = None
    size: int | None = None
    sparse: list[tuple[bytes, bytes]] = field(default_factory=list)

    def sparse_value(self, name: bytes) -> bytes:
        return dict(self.sparse).get(sparse.PAX_PREFIX + name, b"")


class TarEntries:
    """Iterates over the entries of the tar file in `content`, the inflated bytes of `source`.

    Raises ArchiveUnsafe for entries that no plain tar of a database has, ArchiveIncomplete if the tar file ends too
    early, ArchiveAlien if its first block is not a header, ArchiveDamaged if a later header is damaged.
    """

    def __init__(self, source: ArchiveBytes, content: Iterator[bytes], budget: UnpackingBudget) -> None:
        self._source = source
        self._archive = source.archive
        self._content = content
        self._budget = budget
        self._buffer = memoryview(b"")
        self._remaining = 0
        self._padding = 0
        self._map: SparseMap | None = None
        self._holes = 0
        self._headers = self._entries = self._extensions = 0

    def __iter__(self) -> Iterator[TarEntry]:
        extended = _Extended()
        while (block := self._next_header()) is not None:
            header = self._parse_header(block)
            kind = header.kind
            if kind in _PAX:
                self._read_pax(header, extended)
            elif kind == _PAX_GLOBAL:
                self._read_pax(header, of_all := _Extended())
                if of_all != _Extended():
                    raise unsafe(self._archive, "a global pax header renames or resizes all its entries")
            elif kind == _LONG_NAME:
                extended.name = self._decode(self._read_extension(header).rstrip(b"\0"))
            elif kind == _LONG_LINK:
                self._read_extension(header)
            else:
                entry = self._begin_entry(header, block, extended)
                extended = _Extended()
                if entry is not None:
                    yield entry
                self._skip_content()

    def content(self) -> Iterator[bytes]:
        """Yield the content of the current entry; only once per entry."""
        if self._map is None:
            yield from self._stored(self._remaining)
        else:
            yield from self._map.expand(self._stored)

    def _stored(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` stored bytes of the current entry."""
        while count:
            piece = self._read_some(count)
            count -= len(piece)
            self._remaining -= len(piece)
            yield bytes(piece)

    def _next_header(self) -> bytes | None:
        self._headers += 1
        if self._headers > _MAX_HEADERS:
            raise unsafe(self._archive, f"it has more than {_MAX_HEADERS} tar headers")
        block = self._read_block()
        if not block.strip(b"\0"):
            self._read_end()
            return None
        return block

    def _parse_header(self, block: bytes) -> tar.TarHeader:
        try:
            return tar.parse_header(block)
        except ValueError as error:
            if self._headers == 1:
                raise self._archive.alien("there is no tar file in it") from error
            raise self._source.damaged(str(error)) from error

    def _begin_entry(self, header: tar.TarHeader, block: bytes, extended: _Extended) -> TarEntry | None:
        """Check the entry and begin its content. Returns None for a volume label."""
        name = extended.sparse_value(b"name")
        shown = self._decode(name or header.name) if name or extended.name is None else extended.name
        what = _REFUSED.get(header.kind)
        folder = header.kind in (b"5", _FOLDER_DUMP) or (header.kind == b"\0" and shown.endswith("/"))
        if what is not None or not (folder or header.kind in (*_FILES, _SPARSE, _LABEL)):
            raise unsafe(self._archive, f"{shown!r} is {what or f'of the unknown kind {header.kind!r}'}")
        stored = header.size if extended.size is None else extended.size
        self._begin_content(stored if header.kind == _FOLDER_DUMP or not folder else 0)
        if header.kind == _LABEL:
            return None
        self._entries += 1
        if self._entries > MAX_FILES:
            raise unsafe(self._archive, f"it has more than {MAX_FILES} entries")
        size = self._begin_sparse(header, block, extended) if header.kind == _SPARSE or extended.sparse else None
        path = self._checked_path(shown, folder=folder)
        return TarEntry(shown, path, self._remaining if size is None else size, folder)

    def _begin_sparse(self, header: tar.TarHeader, block: bytes, extended: _Extended) -> int:
        """Read the map of a sparse file and return the size of the file. Raises NoSpace if it does not fit."""
        try:
            if header.kind == _SPARSE:
                self._map = sparse.old_map(block, self._read_block)
            elif extended.sparse_value(b"major") == b"1":
                size = sparse.decimal(extended.sparse_value(b"realsize"))
                self._map = sparse.stored_map(size, self._read_map_block)
            else:
                self._map = sparse.pax_map(extended.sparse)
            self._map.check(self._remaining)
        except ValueError as error:
            raise self._source.damaged(str(error)) from error
        holes = self._map.size - self._map.stored
        self._holes += holes
        if self._holes > sparse.MAX_HOLE_BYTES:
            raise unsafe(self._archive, f"its sparse files have holes of more than {sparse.MAX_HOLE_BYTES} bytes")
        self._budget.charge(holes)
        return self._map.size

    def _read_map_block(self) -> bytes:
        if self._remaining < BLOCK:
            raise ValueError("the map of a sparse file is incomplete")
        self._remaining -= BLOCK
        return self._read_block()

    def _checked_path(self, name: str, *, folder: bool) -> tuple[str, ...]:
        if len(name) > _MAX_NAME_CHARS:
            raise unsafe(self._archive, f"a name is {len(name)} characters long")
        if name.startswith("/") or ".." in name.split("/"):
            raise unsafe(self._archive, f"{name!r} leads outside")
        if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name):
            raise unsafe(self._archive, f"the name {name!r} has control characters")
        path = tuple(part for part in name.split("/") if part not in ("", "."))
        if not path and not folder:
            raise unsafe(self._archive, "a file has no name")
        return path

    def _read_pax(self, header: tar.TarHeader, extended: _Extended) -> None:
        try:
            for key, value in tar.parse_pax(self._read_extension(header)):
                if key == b"path":
                    extended.name = self._decode(value)
                elif key == b"size":
                    extended.size = self._parse_size(value)
                elif key.startswith(sparse.PAX_PREFIX):
                    extended.sparse.append((key, value))
                    sparse.check_count(len(extended.sparse) // 2)
                elif key == b"SCHILY.realsize":
                    raise unsafe(self._archive, "it holds a sparse file of another form than GNU's")
        except ValueError as error:
            raise self._source.damaged(str(error)) from error

    @staticmethod
    def _parse_size(value: bytes) -> int:
        if not value.isdigit() or len(value) > 20:
            raise ValueError("the size in a pax header is not a number")
        return int(value)

    def _read_extension(self, header: tar.TarHeader) -> bytes:
        self._extensions += header.size
        if header.size > _MAX_EXTENSION_BYTES or self._extensions > _MAX_EXTENSIONS_BYTES:
            raise unsafe(self._archive, f"an extended tar header has {header.size} bytes")
        self._begin_content(header.size)
        content = b"".join(self.content())
        self._skip_content()
        return content

    def _begin_content(self, size: int) -> None:
        self._budget.charge(size)
        self._map = None
        self._remaining, self._padding = size, padding(size)

    def _skip_content(self) -> None:
        for _ in self._stored(self._remaining):
            pass
        while self._padding:
            self._padding -= len(self._read_some(self._padding))

    def _read_block(self) -> bytes:
        block = b""
        while len(block) < BLOCK:
            block += self._read_some(BLOCK - len(block))
        return block

    def _read_end(self) -> None:
        """Read to the end, so that every checksum is compared. Only zeros may follow."""
        if self._buffer.tobytes().strip(b"\0"):
            raise self._source.damaged("something follows the end of the tar file")
        for piece in self._content:
            self._budget.charge(len(piece))
            if piece.strip(b"\0"):
                raise self._source.damaged("something follows the end of the tar file")

    def _read_some(self, limit: int) -> memoryview:
        while not self._buffer:
            inflated = next(self._content, None)
            if inflated is None:
                raise self._archive.incomplete(
                    "the tar file in it ends too early: the program that wrote it did not come to its end"
                )
            self._buffer = memoryview(inflated)
        piece, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return piece

    @staticmethod
    def _decode(name: bytes) -> str:
        return name.decode("utf-8", "backslashreplace")

"""Puts the members of a new archive together, in order, with the digests for its index."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from blake3 import blake3

from eventvault.archive import layout, tar
from eventvault.archive.compression import Compression
from eventvault.archive.format2.index import VERSION, HashedEntry, IndexWriter, Span
from eventvault.archive.layout import Closing
from eventvault.archive.output import ArchiveOutput
from eventvault.archive.packing import PackedPiece, PackedText
from eventvault.archive.readback import WrittenRanges
from eventvault.archive.stored import Clone, MemberRun


class Assembly:
    """Appends tar entries to the file `handle`. End with `close`.

    modified: the time in all tar headers. compression: of manifest and index. written: the ranges that were not
    copied, to be read back. Methods may raise CopyFailed, as `ArchiveOutput` does.
    """

    def __init__(self, handle: int, modified: int, compression: Compression) -> None:
        self.written = WrittenRanges()
        self._modified = modified
        self._compression = compression
        self._output = ArchiveOutput(handle)
        self._index_text = PackedText(compression)
        self._index = IndexWriter(self._index_text.add)
        self._root: blake3 | None = None
        """The hash of the archive's bytes from the index on; None before the index begins."""

    @property
    def offset(self) -> int:
        return self._output.offset

    @property
    def clones(self) -> list[Clone]:
        return self._output.clones

    def add_folder(self) -> None:
        block = tar.build_header(layout.FOLDER_ENTRY, 0, self._modified)
        span = self._write(layout.member(block, layout.opening_header(VERSION)))
        self._list(layout.FOLDER_ENTRY, 0, blake3().hexdigest(), [span])

    def add_file(self, name: str, size: int, pieces: Iterable[PackedPiece]) -> str:
        """Add a file of the database from its compressed pieces. Returns the BLAKE3 of its content, in hex.

        The header member comes first, and whether it is aligned depends on the length of all pieces. So the first
        pieces wait until they are long enough, or complete.
        """
        spans: list[Span] = []
        waiting: list[PackedPiece] = []
        digest = None if size else blake3().hexdigest()
        for piece in pieces:
            waiting.append(piece)
            digest = piece.file_blake3
            length = sum(len(piece.member) for piece in waiting)
            if not spans and digest is None and length < layout.ALIGNED_FROM:
                continue
            if not spans:
                spans.append(self._header(name, size, length))
            spans += [self._write(piece.member, piece.digest) for piece in waiting]
            waiting.clear()
        assert digest is not None, "the last piece of a file has its digest"
        self._list(layout.FOLDER_ENTRY + name, size, digest, spans or [self._header(name, size, 0)])
        return digest

    def add_copy(self, name: str, size: int, digest: str, run: MemberRun) -> None:
        """Add a file of the database by copying its members from another archive. digest: BLAKE3 of its content."""
        spans = [self._header(name, size, run.file.length)]
        offset = self.offset
        copied = self._output.copy(run, digest)
        for member, digest_of_member in zip(run.file.members, copied.digests, strict=True):
            spans.append(Span(offset, member.length, digest_of_member))
            offset += member.length
        if copied.tail:
            self.written.add(offset - len(copied.tail), copied.tail)
        self._list(layout.FOLDER_ENTRY + name, size, digest, spans)

    def add_text(self, name: str, parts: Iterable[bytes]) -> None:
        text = PackedText(self._compression)
        for part in parts:
            text.add(part)
        spans = self._add_packed(name, text)
        self._list(name, text.size, text.digest.hexdigest(), spans)

    def _add_packed(self, name: str, text: PackedText) -> list[Span]:
        text.finish()
        block = tar.build_header(name, text.size, self._modified)
        return [self._write(member) for member in (layout.member(block), *text.members)]

    def finish(self, seal: Callable[[bytes], bytes] | None) -> bytes:
        """Add the index, the end of the tar file, the seal and the closing member. Returns the root."""
        self._output.finish()
        self._index.finish()
        index_offset = self.offset
        self._root = blake3()
        self._add_packed(layout.INDEX_NAME, self._index_text)
        self._write(layout.member(layout.END_BLOCKS))
        root = self._root.digest()
        self._write(layout.seal_member(seal(root) if seal else layout.NOT_SEALED, VERSION))
        self._write(layout.closing_member(Closing(VERSION, index_offset, root)))
        self._output.finish()
        return root

    def close(self) -> None:
        self._output.close()

    def _header(self, name: str, size: int, data_bytes: int) -> Span:
        block = tar.build_header(layout.FOLDER_ENTRY + name, size, self._modified)
        aligned = data_bytes >= layout.ALIGNED_FROM
        return self._write(layout.aligned_header_member(block, self.offset) if aligned else layout.member(block))

    def _write(self, member: bytes, digest: bytes | None = None) -> Span:
        digest = digest or blake3(member).digest()
        span = Span(self.offset, len(member), digest.hex())
        self.written.add(span.offset, member, digest)
        if self._root is not None:
            self._root.update(member)
        self._output.write(member)
        return span

    def _list(self, name: str, size: int, digest: str, spans: list[Span]) -> None:
        self._index.add(HashedEntry(name, size, digest, tuple(spans)))

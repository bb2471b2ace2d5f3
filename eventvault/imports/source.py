"""The text of a file to import: gzip and zstd are recognised by their first bytes, and inflated in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from isal import isal_zlib

from eventvault.errors import InvalidInput
from eventvault.gzip_format import WBITS
from eventvault.imports.zstandard import zstd

NAMING_BYTES = 2**20
"""An import without a name is named after the digest of so many bytes of its file."""
CHUNK = 2**18
_WINDOW_LOG = 27
"""The largest window of a zstd frame: 128 MiB, as `zstd -d` allows."""
_GZIP_MARK = b"\x1f\x8b"
_ZSTD_MARKS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))
"""A frame, or a skippable frame, which `pzstd` writes before each frame."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF8_MARK = b"\xef\xbb\xbf"


class Readable(Protocol):
    """A raw file: `read` returns the bytes that are available, and nothing at the end."""

    def read(self, size: int, /) -> bytes | None: ...


class ImportSource:
    """The text of one file, which `chunks` reads once.

    read_bytes: how much of the file was read. broken: why the text ended too early; None if it did not.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._beginning = _read_full(file, NAMING_BYTES)
        self.digest = hashlib.sha256(self._beginning).hexdigest()
        """The SHA-256 of the first NAMING_BYTES."""
        self.read_bytes = 0
        self.broken: str | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the text without a byte order mark. Raises InvalidInput for the mark of UTF-16, or OSError."""
        chunks = self._text()
        first = next(chunks, b"")
        while 0 < len(first) < len(UTF8_MARK) and (more := next(chunks, b"")):
            first += more
        if first.startswith(_UTF16_MARKS):
            raise InvalidInput(
                "the input is UTF-16, and nothing was imported", hint="convert it first: iconv -f UTF-16 -t UTF-8"
            )
        yield first.removeprefix(UTF8_MARK)
        yield from chunks

    def _text(self) -> Iterator[bytes]:
        if self._beginning.startswith(_GZIP_MARK):
            return self._inflated("gzip", _Gzip)
        if self._beginning.startswith(_ZSTD_MARKS):
            return self._inflated("zstd", _Zstd)
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        beginning, self._beginning = self._beginning, b""
        for start in range(0, len(beginning), CHUNK):
            piece: bytes | None = beginning[start : start + CHUNK]
            self.read_bytes += len(piece or b"")
            yield piece or b""
        del beginning
        while piece := self._file.read(CHUNK):
            self.read_bytes += len(piece)
            yield piece

    def _inflated(self, kind: str, begin: Callable[[], Any]) -> Iterator[bytes]:
        """Yield the content of gzip members or zstd frames. Zeros after one are padding."""
        inflater = begin()
        for piece in self._pieces():
            rest = piece
            while rest or inflater.has_more:
                if inflater.ended:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    inflater = begin()
                try:
                    text, rest = inflater.inflate(rest)
                except inflater.errors as error:
                    self.broken = f"its {kind} data are damaged near byte {self.read_bytes:,}: {error}"
                    return
                if text:
                    yield text
        if not inflater.ended:
            self.broken = f"it ends within its {kind} data, which were cut off after byte {self.read_bytes:,}"


class _Gzip:
    """One gzip member. has_more: there is more text without more input."""

    errors = (isal_zlib.error,)

    def __init__(self) -> None:
        self._inflater = isal_zlib.decompressobj(WBITS)
        self.has_more = False

    @property
    def ended(self) -> bool:
        return bool(self._inflater.eof)

    def inflate(self, data: bytes) -> tuple[bytes, bytes]:
        """Return at most CHUNK bytes of text, and the rest of the input."""
        text = self._inflater.decompress(data, CHUNK)
        self.has_more = len(text) == CHUNK and not self._inflater.eof
        return text, self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail


class _Zstd:
    """One zstd frame, with the interface of `_Gzip`."""

    def __init__(self) -> None:
        module = zstd()
        self.errors = (module.ZstdError,)
        self._inflater = module.ZstdDecompressor(options={module.DecompressionParameter.window_log_max: _WINDOW_LOG})
        self.has_more = False

    @property
    def ended(self) -> bool:
        return bool(self._inflater.eof)

    def inflate(self, data: bytes) -> tuple[bytes, bytes]:
        text = self._inflater.decompress(data, CHUNK)
        self.has_more = not self._inflater.needs_input and not self._inflater.eof
        return text, self._inflater.unused_data if self._inflater.eof else b""


def _read_full(file: Readable, size: int) -> bytes:
    """Read so many bytes, fewer only at the end of the file. One read of a pipe may return fewer."""
    content = bytearray()
    while len(content) < size and (piece := file.read(size - len(content))):
        content += piece
    return bytes(content)

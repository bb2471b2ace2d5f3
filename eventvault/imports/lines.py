"""Splits a text into lines that end in `\\n`, `\\r\\n` or `\\r`. A line that is too long is not held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from eventvault.errors import EventVaultError, MalformedInput, TooLarge
from eventvault.imports.record import SHOWN_BYTES, ImportRecord
from eventvault.imports.source import UTF8_MARK

_ENDS = (b"\n", b"\r")
_BLANK = b" \t\r\n"


class InputLine(msgspec.Struct, frozen=True, gc=False):
    """text: with its end; only the beginning if the line is too long, with the digest of all. size: of all."""

    number: int
    text: bytes
    size: int
    digest: str = ""


def split(chunks: Iterable[bytes], longest: int) -> Iterator[InputLine]:
    """Yield the lines. longest: lines with more bytes are not held."""
    number, begun = 0, _UnfinishedLine(longest)
    held = b""
    for chunk in chunks:
        chunk = held + chunk if held else chunk
        held = b"\r" if chunk.endswith(b"\r") else b""  # a `\n` may follow
        for text in (chunk[:-1] if held else chunk).splitlines(keepends=True):
            if not text.endswith(_ENDS):
                begun.add(text)
                continue
            number += 1
            if begun.size or len(text) > longest:
                begun.add(text)
                yield begun.end(number)
            else:
                yield InputLine(number, text, len(text))
    if held:
        begun.add(held)
    if begun.size:
        yield begun.end(number + 1)


class _UnfinishedLine:
    """A line whose end was not read yet."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._digest = hashlib.sha256()

    def add(self, part: bytes) -> None:
        was_too_long = self.size > self._longest
        self.size += len(part)
        if was_too_long:
            self._digest.update(part)
            return
        self._parts.append(part)
        if self.size > self._longest:
            text = b"".join(self._parts)
            self._digest.update(text)
            self._parts = [text[:SHOWN_BYTES]]

    def end(self, number: int) -> InputLine:
        digest = self._digest.hexdigest() if self.size > self._longest else ""
        line = InputLine(number, b"".join(self._parts), self.size, digest)
        self._clear()
        return line


def records_of_lines(
    lines: Iterable[InputLine], longest: int, broken: Callable[[], str | None]
) -> Iterator[ImportRecord]:
    """Yield a record for each line that is not blank. broken: why the text ended too early, once it has ended."""
    for line in lines:
        number, text = line.number, line.text
        json = text.removeprefix(UTF8_MARK).strip(_BLANK)
        if line.digest:
            yield ImportRecord(number, number, text, b"", too_long("line", line.size, longest), digest=line.digest)
        elif not text.endswith(_ENDS) and broken():
            yield ImportRecord(number, number, text, b"", cut_off("line", broken()), incomplete=True)
        elif json:
            yield ImportRecord(number, number, text, json)


def too_long(what: str, size: int, longest: int) -> EventVaultError:
    return TooLarge(
        f"the {what} has {size:,} bytes; at most {longest:,} are allowed", hint="raise MAX_BODY_BYTES, or split it"
    )


def cut_off(what: str, why: str | None) -> EventVaultError:
    return MalformedInput(f"the input breaks off in this {what}: {why}", hint="import it again once the file is whole")

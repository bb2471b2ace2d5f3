"""Splits a JSON array, such as a batch of CloudEvents, into its elements without holding the whole array in memory.

It examines only brackets and strings; each element is parsed later, like a line of NDJSON.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator

from eventvault.errors import MalformedInput
from eventvault.imports.lines import cut_off, too_long
from eventvault.imports.record import SHOWN_BYTES, ImportRecord

_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}])', re.DOTALL)
"""Matches up to the next bracket that is not in a string."""
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_OPENING = b"[{"
_BETWEEN = b" \t\r\n,"


def records_of_array(chunks: Iterable[bytes], longest: int, broken: Callable[[], str | None]) -> Iterator[ImportRecord]:
    """Yield a record for each element. longest: longer elements are not held. broken: as in `records_of_lines`."""
    array = _Array(longest)
    for chunk in chunks:
        yield from array.add(chunk)
    yield from array.end(broken())


class _Array:
    """The text of the array that was read and not yielded yet.

    Up to `_position` the brackets were examined; `_depth` of them are open. If an element is too long, `_dropped` of
    its bytes are not held any more, and `_shown` is its beginning.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = b""
        self._position = 0
        self._depth = 0
        self._number = 0
        self._line = 1
        self._dropped = 0
        self._shown = b""
        self._digest = hashlib.sha256()
        self._in_string = False

    def add(self, chunk: bytes) -> Iterator[ImportRecord]:
        self._buffer += chunk
        start = 0
        while self._leave_string() and (match := _BRACKET.match(self._buffer, self._position)):
            self._position = match.end()
            if match[1] in _OPENING:
                self._depth += 1
                if self._depth == 1:
                    yield from self._between(start, match.start(1))
                    start = self._position
                elif self._depth == 2:
                    yield from self._between(start, match.start(1))
                    start = match.start(1)
            else:
                self._depth -= 1
                if self._depth == 1:
                    yield self._element(start, self._position)
                    start = self._position
                elif self._depth <= 0:
                    yield from self._between(start, match.start(1))
                    start, self._depth = self._position, 0
        self._forget(start)

    def end(self, why: str | None) -> Iterator[ImportRecord]:
        """Yield records for the rest of the text."""
        if not self._depth:
            yield from self._between(0, len(self._buffer))
            return
        self._number += 1
        shown = (self._shown or self._buffer)[:SHOWN_BYTES]
        problem = cut_off("array", why or "it is not closed")
        yield ImportRecord(self._number, self._line, shown, b"", problem, incomplete=True)

    def _leave_string(self) -> bool:
        """Move past the string in which the dropped text ended. Returns False if that needs more text."""
        if not self._in_string:
            return True
        match = _IN_STRING.match(self._buffer, self._position)
        assert match is not None
        self._position = match.end()
        if self._buffer[self._position : self._position + 1] != b'"':
            return False
        self._position += 1
        self._in_string = False
        return True

    def _element(self, start: int, end: int) -> ImportRecord:
        text = self._buffer[start:end]
        if self._dropped or len(text) > self._longest:
            return self._too_long("event", text)
        line = self._count(text)
        return ImportRecord(self._number, line, text, text)

    def _between(self, start: int, end: int) -> Iterator[ImportRecord]:
        """Yield a record for text between two elements, if it is more than commas."""
        text = self._buffer[start:end]
        if self._dropped:
            yield self._too_long("text between two events", text)
        elif text.strip(_BETWEEN):
            line = self._count(text)
            problem = MalformedInput("the text between two events is not an object", hint="an event is an object")
            yield ImportRecord(self._number, line, text[:SHOWN_BYTES], b"", problem)
        else:
            self._line += text.count(b"\n")

    def _too_long(self, what: str, text: bytes) -> ImportRecord:
        self._digest.update(text)
        digest, size, shown = self._digest.hexdigest(), self._dropped + len(text), self._shown or text[:SHOWN_BYTES]
        self._dropped, self._shown, self._digest = 0, b"", hashlib.sha256()
        line = self._count(text)
        return ImportRecord(self._number, line, shown, b"", too_long(what, size, self._longest), digest=digest)

    def _count(self, text: bytes) -> int:
        """Count a record and its lines. Returns the line on which the text begins."""
        self._number += 1
        line = self._line
        self._line += text.count(b"\n")
        return line

    def _forget(self, start: int) -> None:
        """Drop the text that was yielded, and the text of an element that is too long already."""
        self._buffer = self._buffer[start:]
        self._position -= start
        if len(self._buffer) <= self._longest:
            return
        if self._position == 0 or not self._in_string:
            self._enter_string()
        text = self._buffer[: self._position]
        self._shown = self._shown or text[:SHOWN_BYTES]
        self._digest.update(text)
        self._line += text.count(b"\n")
        self._dropped += len(text)
        self._buffer, self._position = self._buffer[self._position :], 0

    def _enter_string(self) -> None:
        """Move to the end of the text that was read, which mostly ends within a string."""
        quote = self._buffer.find(b'"', self._position)
        while quote >= 0:
            match = _IN_STRING.match(self._buffer, quote + 1)
            assert match is not None
            self._position = match.end()
            if self._position >= len(self._buffer) or self._buffer[self._position : self._position + 1] != b'"':
                self._in_string = True
                return
            self._position += 1
            quote = self._buffer.find(b'"', self._position)
        self._position = len(self._buffer)

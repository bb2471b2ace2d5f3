"""Splits a foreign JSON document into its members without changing a byte of their values.

A parser may change numbers and texts (123456789012345678901234567890, 1e400, "\\ud800"), and drops one value of a
repeated name. So values stay JSON text. A document that orjson reads and that has no white space, as JSON.stringify
writes it, takes a fast path. All others go through a scanner without a limit of depth. Source of the grammar: RFC 8259.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec
import orjson

from eventvault import json_text

_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<mark>[{}\[\]:,])
      | (?P<text>"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")
      | (?P<plain>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


MAX_VALUE_BYTES = 96 * 2**20
"""Memory that the values of a document may take."""


class Document(NamedTuple):
    """A JSON document. members: name → value as JSON text, the last one of a repeated name; None: not an object.

    repeated: True if a name comes twice, so that `members` is incomplete.
    """

    members: dict[str, bytes] | None
    repeated: bool = False


def read_document(text: bytes) -> Document:
    """Split a document into its members. Raises ValueError if `text` is not one JSON document in UTF-8.

    A document with too many values is not split: its members would fill the memory.
    """
    if json_text.has_too_many_values(text, MAX_VALUE_BYTES):
        _check_json(text)
        return Document(None)
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _scan(text.decode())
    if not isinstance(parsed, dict):
        return Document(None)
    try:
        members = {name: bytes(value) for name, value in _raw_members.decode(text).items()}
    except (msgspec.MsgspecError, RecursionError):
        return _scan(text.decode())
    if _shortest_length(members) != len(text):
        return _scan(text.decode())
    return Document(members)


def _check_json(text: bytes) -> None:
    """Raise ValueError if a text is not JSON. No parsed value stays in memory."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def embeddable(text: bytes) -> bytes | None:
    """Return a JSON document as an event can embed it: unchanged but for line breaks, which become blanks.

    Returns None if common readers (orjson among them) refuse it: for a lone surrogate, a number beyond a double, its
    depth, or too many values.
    """
    if json_text.has_too_many_values(text, MAX_VALUE_BYTES):
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return None if json_text.is_deeper(text, json_text.MAX_DEPTH) else text.translate(_LINE_BREAKS)


def read_value(text: bytes) -> Any:
    """Parse one value. A number becomes a `Number`, an object or an array an empty dict or list."""
    first = text.lstrip()[:1]
    if first == b"{":
        return {}
    if first == b"[":
        return []
    return json.loads(text.decode(), parse_int=Number, parse_float=Number)


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _shortest_length(members: dict[str, bytes]) -> int:
    """Return the length of an object of these members without white space or escapes in names."""
    names = sum(len(name.encode()) + 4 for name in members)
    return names + sum(map(len, members.values())) + 2 - bool(members)


def _scan(text: str) -> Document:
    scanner = _Scanner(text)
    scanner.run()
    if not text.lstrip(" \t\n\r").startswith("{"):
        return Document(None)
    members = {json.loads(name): value.encode() for name, value in scanner.members}
    return Document(members, len(members) < len(scanner.members))


class _Scanner:
    """Checks a document against the grammar and collects the members of the outermost object.

    _expected: what may come next: `value`, `first value` or `]`, `first name` or `}`, `name`, `colon`, `comma` or a
    closing mark, `end`.
    """

    def __init__(self, text: str) -> None:
        self.members: list[tuple[str, str]] = []
        self._text = text
        self._open: list[str] = []
        self._expected = "value"
        self._name = ""
        self._value_start = 0

    def run(self) -> None:
        position = 0
        while match := _TOKEN.match(self._text, position):
            position = match.end()
            kind = str(match.lastgroup)
            if kind == "end":
                if self._expected != "end":
                    break
                return
            self._consume(kind, match[kind], match.start(kind), position)
        raise ValueError(f"not JSON at character {position}")

    def _consume(self, kind: str, token: str, start: int, end: int) -> None:
        if kind == "text" and self._expected in ("name", "first name"):
            self._expected = "colon"
            if len(self._open) == 1:
                self._name = token
        elif token == ":" and self._expected == "colon":
            self._expected = "value"
        elif token == "," and self._expected == "comma":
            self._expected = "name" if self._open[-1] == "{" else "value"
        elif kind != "mark" and self._expected in ("value", "first value"):
            self._begin(start)
            self._complete(end)
        elif kind == "mark" and token in "{[" and self._expected in ("value", "first value"):
            self._begin(start)
            self._open.append(token)
            self._expected = "first name" if token == "{" else "first value"
        elif kind == "mark" and token in "}]" and self._may_close(token):
            self._open.pop()
            self._complete(end)
        else:
            raise ValueError(f"not JSON at character {start}")

    def _may_close(self, token: str) -> bool:
        if token == "}":
            return self._expected == "first name" or (self._expected == "comma" and self._open[-1] == "{")
        return self._expected == "first value" or (self._expected == "comma" and self._open[-1] == "[")

    def _begin(self, start: int) -> None:
        if len(self._open) == 1:
            self._value_start = start

    def _complete(self, end: int) -> None:
        if len(self._open) == 1 and self._open[0] == "{":
            self.members.append((self._name, self._text[self._value_start : end]))
        self._expected = "comma" if self._open else "end"

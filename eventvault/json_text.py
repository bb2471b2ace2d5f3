"""Parses JSON as clients send it: from a body's bytes and content type to a value, or an error with the reason.

Clients label JSON in many ways (PowerShell calls it a form by default). So the text decides, not its label: only types
that cannot be JSON are refused. Also refused is JSON that readers understand differently (RFC 8259, sections 4, 8.2 and
9): an object with a repeated name, a lone surrogate, deep nesting.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from eventvault.errors import InvalidInput, MalformedInput, TooLarge, UnsupportedMediaType

JSON_LIKE = frozenset(
    {
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/javascript",
        "text/json",
        "text/plain",
    }
)
"""Content types that may contain JSON, besides every `…+json`."""

NDJSON_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "text/x-ndjson"}
)
"""Content types of one JSON value a line."""

_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"})
_UTF8_MARK = b"\xef\xbb\xbf"

NOT_JSON_HINT = "check quotes, commas and brackets; numbers such as NaN are not JSON"
MAX_DEPTH = 500
"""Deepest nesting of a value that is stored: common JSON readers give up at about 1,000."""
DEEP_HINT = f"nest at most {MAX_DEPTH} levels deep"

MAX_VALUE_BYTES = 160 * 2**20
"""Memory that the values of one JSON text may take: five times the default MAX_BODY_BYTES."""

_FEW_BYTES = 2**20
"""A text of this size takes at most thirty times as much, whatever it holds."""
_COPIES = 6
"""A parsed text and its copies: a text with characters beyond the first 65,536 takes four bytes for each."""
_MARKS = {b"{": 240, b"[": 96, b",": 32, b":": 48, b'"': 26}
"""Mark → bytes of memory that a value takes for each: measured with CPython 3.11, empty and short values included."""
_LONG_TEXT = 64
_LONGEST_INTEGER = 4300
"""Digits that Python converts: the time grows with their square."""
_decoder = msgspec.json.Decoder()
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)
"""An escape; the group matches a surrogate that is not part of a pair."""
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([\[{])|[\]}]', re.DOTALL)


@lru_cache(maxsize=128)
def media_type(content_type: str | None) -> tuple[str, str | None]:
    """`Application/JSON; charset=UTF-8` → (`application/json`, `UTF-8`); None → (``, None)."""
    kind, *parameters = (content_type or "").split(";")
    parameters_by_name = dict(_parameter(text) for text in parameters)
    return kind.strip().lower(), parameters_by_name.get("charset")


def is_json(kind: str) -> bool:
    """Return whether a media type, in lower case and without parameters, stands for JSON."""
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def require_json_like(content_type: str | None) -> None:
    """Raise UnsupportedMediaType for a content type that cannot be JSON."""
    kind, _ = media_type(content_type)
    if kind not in JSON_LIKE and not kind.endswith("+json"):
        raise UnsupportedMediaType(
            f"the content type {kind!r} is not supported here", hint="send JSON, as application/json"
        )


def to_utf8(body: bytes, charset: str | None) -> bytes:
    """Return the text in UTF-8 without a byte order mark.

    Raises UnsupportedMediaType for an unsupported charset, MalformedInput for bytes that are not text in the charset.
    """
    name = _supported_charset(charset or "utf-8")
    if name == "utf-8":
        return body.removeprefix(_UTF8_MARK)
    try:
        return body.decode(name).removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise MalformedInput(f"the body is not text in its charset {charset!r}: {error}", hint="send UTF-8") from None


def _supported_charset(charset: str) -> str:
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    if name not in _CHARSETS:
        raise UnsupportedMediaType(f"the charset {charset[:40]!r} is not supported here", hint="send UTF-8")
    return name


class RepeatedName(InvalidInput):
    """An object has a name twice. Readers differ in which of the two values they take."""


def parse(text: bytes, what: str = "the body") -> Any:
    """Parse a JSON text in UTF-8. Raises as `read` does, and MalformedInput for a number too large for Python."""
    return _read(text, what, any_number=False, max_depth=MAX_DEPTH)[0]


def read(text: bytes, what: str = "the body", *, max_depth: int = MAX_DEPTH) -> tuple[Any, bytes]:
    """Parse a JSON text in UTF-8; return the value, and the text without the white space between its tokens.

    Numbers that are too large for Python are infinity in the value. Raises MalformedInput that names `what` and the
    position of the error, TooLarge for more values than fit into memory, RepeatedName, or InvalidInput for a lone
    surrogate or more levels than `max_depth`.
    """
    return _read(text, what, any_number=True, max_depth=max_depth)


def compact(text: bytes) -> bytes:
    """Return a valid JSON text without the white space between its tokens, else byte for byte."""
    return msgspec.json.format(text, indent=-1)


def memory_to_parse(text: bytes) -> int:
    """Return at least how many bytes of memory it takes to parse a JSON text; 0 for a small one."""
    return 0 if len(text) <= _FEW_BYTES else _COPIES * len(text) + min(_marks_of(text), MAX_VALUE_BYTES)


def has_too_many_values(text: bytes, most: int = MAX_VALUE_BYTES) -> bool:
    """Return whether the values of a JSON text would take more than `most` bytes of memory. It is not parsed.

    The marks in texts count too, until only those in long texts decide.
    """
    if len(text) <= _FEW_BYTES or (memory := _marks_of(text)) <= most:
        return False
    if text.count(b'"') * _MARKS[b'"'] > most:
        return True
    for match in _TEXT.finditer(text):
        start, end = match.span()
        if end - start > _LONG_TEXT:
            memory -= _marks_of(text, start + 1, end - 1)
            if memory <= most:
                return False
    return True


def too_many_values(what: str) -> TooLarge:
    return TooLarge(
        f"{what} has more values than fit into {MAX_VALUE_BYTES // 2**20} MiB once it is parsed",
        hint="send less in one request, or pack what need not be JSON into a text",
    )


def _marks_of(text: bytes, start: int = 0, end: int | None = None) -> int:
    return sum(size * text.count(mark, start, end) for mark, size in _MARKS.items())


def is_deeper(text: bytes, depth: int) -> bool:
    """Return whether a JSON text has more levels of objects and arrays than `depth`."""
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    level = 0
    for match in _NESTING.finditer(text):
        if match[1]:
            level += 1
            if level > depth:
                return True
        elif match[0] in (b"]", b"}"):
            level -= 1
    return False


def _read(text: bytes, what: str, *, any_number: bool, max_depth: int) -> tuple[Any, bytes]:
    if has_too_many_values(text):
        raise too_many_values(what)
    refusal: Exception | None = None
    try:
        value = _decoder.decode(text)
        encoded = orjson.dumps(value)
        if encoded == text:
            return value, text
        if _names_are_unique(text, encoded):
            return value, compact(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        refusal = error
    value = encoded = b""  # frees their memory
    value = _read_carefully(text, what, refusal, max_depth)
    if isinstance(refusal, msgspec.DecodeError) and not (any_number and isinstance(refusal, msgspec.ValidationError)):
        raise _not_json(what, refusal)
    return value, compact(text)


def _names_are_unique(text: bytes, encoded: bytes) -> bool:
    """Return True if no object in `text` has a repeated name. False: one may have. encoded: its value, encoded again.

    A parser drops a member whose name is repeated, and with it at least one colon. The encoded value has all other
    colons, also those in strings, unless they were escaped. Counting is several times faster than examining each
    object. orjson encodes neither integers beyond 64 bits nor more than 254 levels, so those are read carefully.
    """
    return encoded.count(b":") == text.count(b":") and not _ESCAPED_COLON.search(text)


def _read_carefully(text: bytes, what: str, refusal: Exception | None, max_depth: int) -> Any:
    """Read what the fast decoder refused, or what may have a repeated name. Raises as `read` does."""
    repeated: list[str] = []
    try:
        value = _read_members(text.decode(), repeated)
    except UnicodeDecodeError as error:
        if isinstance(refusal, msgspec.DecodeError) and not isinstance(refusal, msgspec.ValidationError):
            raise _not_json(what, refusal) from None
        raise MalformedInput(
            f"{what} is not UTF-8: {error.reason} at byte {error.start}",
            hint="send UTF-8 and declare it: Content-Type: application/json; charset=utf-8 (PowerShell: -ContentType)",
        ) from None
    except RecursionError:
        raise MalformedInput(f"{what} is nested too deeply", hint=DEEP_HINT) from None
    except ValueError as error:
        raise _not_json(what, refusal or error) from None
    if _SURROGATE.search(text) and any(match[1] for match in _ESCAPE.finditer(text)):
        raise InvalidInput(
            f"{what} holds a lone surrogate, such as \\ud800, which is not a character",
            hint="send both halves of the pair, or the bytes as data_base64",
        )
    if repeated:
        raise RepeatedName(
            f"{what} has an object with the name {repeated[0][:80]!r} twice", hint="use each name of an object once"
        )
    if is_deeper(text, max_depth):
        raise InvalidInput(f"{what} is nested too deeply", hint=DEEP_HINT)
    return value


def _read_members(text: str, repeated: list[str]) -> Any:
    """Parse a JSON text with numbers of any length. repeated: receives the names that an object has twice."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs) and not repeated:
            repeated.append(Counter(name for name, _ in pairs).most_common(1)[0][0])
        return value

    return json.loads(text, object_pairs_hook=members, parse_int=_integer, parse_constant=_refuse_constant)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= _LONGEST_INTEGER else math.inf


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _not_json(what: str, error: Exception) -> MalformedInput:
    return MalformedInput(f"{what} is not JSON: {error}", hint=NOT_JSON_HINT)


def parse_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Parse the JSON object in a request's body; an empty body is an empty object.

    Raises UnsupportedMediaType, or MalformedInput if the body is not a JSON object.
    """
    if not body.strip():
        return {}
    require_json_like(content_type)
    value = parse(to_utf8(body, media_type(content_type)[1]))
    if not isinstance(value, dict):
        raise MalformedInput(
            "the body is JSON but not an object", hint="send an object; GET /docs/api shows its members"
        )
    return value

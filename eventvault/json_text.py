"""Parses JSON as clients send it: from a body's bytes and content type to a value, or an error with the reason.

Clients label JSON in many ways (PowerShell calls it a form by default). So the text decides, not its label: only types
that cannot be JSON are refused.
"""

from __future__ import annotations

import codecs
from typing import Any

import msgspec

from eventvault.errors import MalformedInput, UnsupportedMediaType

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

_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"})
_UTF8_MARK = b"\xef\xbb\xbf"

_decoder = msgspec.json.Decoder()
"""msgspec, because it reads whole numbers of any size; orjson turns the largest into floats."""


def media_type(content_type: str | None) -> tuple[str, str | None]:
    """`Application/JSON; charset=UTF-8` → (`application/json`, `UTF-8`); None → (``, None)."""
    kind, *parameters = (content_type or "").split(";")
    parameters_by_name = dict(_parameter(text) for text in parameters)
    return kind.strip().lower(), parameters_by_name.get("charset")


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


def parse(text: bytes, what: str = "the body") -> Any:
    """Parse a JSON text in UTF-8. Raises MalformedInput that names `what` and the position of the error."""
    try:
        return _decoder.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedInput(
            f"{what} is not UTF-8: {error.reason} at byte {error.start}",
            hint="send UTF-8 and declare it: Content-Type: application/json; charset=utf-8 (PowerShell: -ContentType)",
        ) from None
    except RecursionError:
        raise MalformedInput(f"{what} is nested too deeply", hint="flatten it") from None
    except msgspec.MsgspecError as error:
        raise MalformedInput(f"{what} is not JSON: {error}", hint="check quotes, commas and brackets") from None


def parse_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Parse the JSON object in a request's body; an empty body is an empty object.

    Raises UnsupportedMediaType, or MalformedInput if the body is not a JSON object.
    """
    if not body.strip():
        return {}
    require_json_like(content_type)
    value = parse(to_utf8(body, media_type(content_type)[1]))
    if not isinstance(value, dict):
        raise MalformedInput("the body is JSON but not an object", hint='send an object, such as {"label": "text"}')
    return value

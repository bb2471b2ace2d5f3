"""Shows names that come from a disk or a client: bytes that are not UTF-8 and control characters are escaped.

Python represents a byte of a file name that is not UTF-8 by a surrogate, which no JSON encoder takes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, surrogates, line and paragraph separators."""
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's marks of direction, with which a terminal shows the letters of a text in another order."""


def is_utf8(text: str) -> bool:
    """Return False for a name with bytes that are not UTF-8."""
    return _SURROGATE.search(text) is None


def encodable(value: Any) -> Any:
    """Return plain data whose texts can be encoded as UTF-8: surrogates are escaped, all else stays as it is."""
    if isinstance(value, str):
        return value if value.isascii() or is_utf8(value) else _SURROGATE.sub(lambda match: _escape(match[0]), value)
    if isinstance(value, dict):
        return {encodable(name): encodable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value


def has_control_characters(text: str) -> bool:
    return not text.isprintable() and any(unicodedata.category(character) in _ESCAPED for character in text)


def printable(text: str) -> str:
    r"""Return the text on one line: a line break becomes `\n`, a byte that is not UTF-8 `\xe4`, and so on."""
    if text.isprintable():
        return text
    return "".join(_escape(character) if _misleads(character) else character for character in text)


def _misleads(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in _ESCAPED


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()

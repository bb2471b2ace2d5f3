"""Cursors: a position in the sequence of events and its generation, as opaque text.

The form, for maintainers: `c` and the URL-safe base64, without padding, of `<generation>:<sequence>`.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from eventvault.errors import InvalidInput

_LARGEST = 2**63 - 1
_GENERATION = re.compile(r"[0-9a-f]{16}")


class Cursor(NamedTuple):
    """A position. sequence: the next page begins after it. generation: None if the cursor was a plain number."""

    sequence: int
    generation: str | None = None


def encode(generation: str, sequence: int) -> str:
    return "c" + base64.urlsafe_b64encode(f"{generation}:{sequence}".encode()).decode().rstrip("=")


def decode(text: str, field: str = "after") -> Cursor:
    """Return the position in a text of `encode`, or in a plain sequence number. Raises InvalidInput for any other text.

    field: the name of the parameter, for the error.
    """
    plain = re.fullmatch(r"[0-9]{1,19}", text)
    generation, _, digits = ("", "", text) if plain else _decode_base64(text).rpartition(":")
    is_cursor = plain or _GENERATION.fullmatch(generation)
    if not is_cursor or not re.fullmatch(r"[0-9]{1,19}", digits) or int(digits) > _LARGEST:
        raise InvalidInput(
            f"{text[:80]!r} is not a cursor",
            hint="give the `next` of an earlier answer or a sequence number, or leave it out",
            fields={field: ["Not a cursor, and not a sequence number."]},
        )
    return Cursor(int(digits), generation or None)


def _decode_base64(text: str) -> str:
    if not re.fullmatch(r"c[A-Za-z0-9_-]+", text):
        return ""
    try:
        return base64.urlsafe_b64decode(text[1:] + "=" * (-(len(text) - 1) % 4)).decode()
    except ValueError:
        return ""

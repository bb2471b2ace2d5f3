"""Parses a moment given as one text: an instant, a sequence or an archive, of any generation."""

from __future__ import annotations

import re

from eventvault import clock
from eventvault.backups import names
from eventvault.errors import InvalidInput
from eventvault.restore.values import Moment

LARGEST = 2**63 - 1
_GENERATION = re.compile(r"([0-9a-f]{16})@(.*)", re.DOTALL)


def moment_of(text: str, name: str) -> Moment:
    """Return the moment that `text` names: `2026-01-31T12:34:56.789Z`, `42`, `backup_….tar.gz`, `now`.

    `<generation>@` in front of an instant or a sequence selects the generation; alone it means the generation's end. A
    space in the offset is read as `+`, because query strings turn `+` into a space. Raises InvalidInput, which names
    the parameter `name`.
    """
    if text.endswith(names.KNOWN_SUFFIXES):
        return Moment(archive=text)
    qualified = _GENERATION.fullmatch(text)
    generation, rest = (qualified[1], qualified[2]) if qualified else (None, text)
    if (qualified and not rest) or (not qualified and rest == "now"):
        return Moment(generation=generation)
    if re.fullmatch(r"[0-9]{1,19}", rest) and int(rest) <= LARGEST:
        return Moment(sequence=int(rest), generation=generation)
    try:
        return Moment(instant=clock.parse_lenient(rest), generation=generation)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text[:80]!r} is not a moment",
            hint="give an instant with an offset, a sequence, an archive's name or now; <generation>@ may come first",
            fields={name: ["Not an instant, a sequence or an archive's name."]},
        ) from None

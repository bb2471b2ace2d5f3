"""One record of a file to import, such as a line: the event in it, or why it has none."""

from __future__ import annotations

import msgspec

from eventvault.errors import EventVaultError

SHOWN_BYTES = 1000
"""How much of a record is shown that is too long to be held."""


class ImportRecord(msgspec.Struct, frozen=True):
    """number: of the record, from 1. line: on which it begins. json: the event; empty if there is a problem.

    text: as it is in the file, with its line end; the beginning of one that is too long. incomplete: the file breaks
    off in it, so a later import may find it whole. digest: of a text that is too long, in hex.
    """

    number: int
    line: int
    text: bytes
    json: bytes
    problem: EventVaultError | None = None
    incomplete: bool = False
    digest: str = ""

"""One record of a file to import, such as a line: its event, or why it has none."""

from __future__ import annotations

import msgspec

from eventvault.errors import EventVaultError

SHOWN_BYTES = 1000
"""How many bytes are shown of a record that is too long to be held."""


class ImportRecord(msgspec.Struct, frozen=True):
    """number: of the record, from 1. line: on which it begins. json: the event; empty if there is a problem.

    text: as in the file, with its line end; only the beginning if it is too long, with the digest of all in hex.
    incomplete: the file breaks off in it, so a later import may find it complete.
    """

    number: int
    line: int
    text: bytes
    json: bytes
    problem: EventVaultError | None = None
    incomplete: bool = False
    digest: str = ""

"""What is asked of the past and what it answers with."""

from __future__ import annotations

import msgspec

from eventvault.database.generation import is_id


class PastView(msgspec.Struct, frozen=True):
    """A moment that can be read: `ScanQuery` with this generation, and this sequence as `upto`.

    of: the generation whose events they are, where `generation` names a copy that was made for its readers; None for
    that of a foreign archive.
    """

    generation: str
    sequence: int
    of: str | None = None

    @property
    def generation_id(self) -> str | None:
        """What an answer calls its generation; None for a foreign archive's copy, whose events are of none."""
        return self.of or (self.generation if is_id(self.generation) else None)


class DiffQuery(msgspec.Struct, frozen=True):
    """What `one` and `other` have that the other has not. at: the `next` of the page before."""

    one: PastView
    other: PastView
    at: tuple[int, int] | None = None


class DiffPage(msgspec.Struct, frozen=True):
    """lines: JSON objects as `eventvault.past.diff` describes them, and how many of each kind. next: None at the end.

    common: the last sequence that both share by their lineage; what is up to it was not looked at.
    """

    lines: list[bytes]
    next: tuple[int, int] | None
    only_one: int
    only_other: int
    different: int
    common: int


class CopyResult(msgspec.Struct, frozen=True):
    """How many events a part of the past has; of these appended, there already, and appended under another id."""

    matched: int
    appended: int
    already_there: int
    renamed: int
    last_sequence: int

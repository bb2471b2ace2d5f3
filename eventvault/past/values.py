"""The queries about the past and their results."""

from __future__ import annotations

import msgspec

from eventvault.database.generation import is_id


class PastView(msgspec.Struct, frozen=True):
    """A moment that can be read with a `ScanQuery` of this generation, with this sequence as `upto`.

    of: the generation of the events, if `generation` is the key of a database that was built for its readers; None for
    a foreign archive.
    """

    generation: str
    sequence: int
    of: str | None = None

    @property
    def generation_id(self) -> str | None:
        """The generation's id for an answer; None for a foreign archive, whose events have no generation."""
        return self.of or (self.generation if is_id(self.generation) else None)


class DiffQuery(msgspec.Struct, frozen=True):
    """Asks for the events that only `one` or only `other` has. at: the `next` of the previous page."""

    one: PastView
    other: PastView
    at: tuple[int, int] | None = None


class DiffPage(msgspec.Struct, frozen=True):
    """lines: JSON objects as `eventvault.past.diff` describes them, and the number of each kind. next: None at the end.

    common: the last sequence that both share by their lineage; events up to it were not compared.
    """

    lines: list[bytes]
    next: tuple[int, int] | None
    only_one: int
    only_other: int
    different: int
    common: int


class Exported(msgspec.Struct, frozen=True):
    """A file of events. operation: the id of the operation that wrote it. until: when it is removed, in microseconds.

    events: their number. sequence: the last one of the moment. generation: of the events; None for a foreign archive.
    lines: bytes of the events as lines. size: bytes of the file, which is compressed. sha256: of the file, in hex.
    """

    operation: str
    events: int
    sequence: int
    generation: str | None
    lines: int
    size: int
    sha256: str
    until: int


class CopyResult(msgspec.Struct, frozen=True):
    """The numbers of events of a selective restore: matched, appended, already stored, and appended with another id."""

    matched: int
    appended: int
    already_there: int
    renamed: int
    last_sequence: int

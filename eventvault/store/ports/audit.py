"""The port to the audit: what was done, who did it, and what came of it."""

from __future__ import annotations

from typing import Protocol

from eventvault.audit.lines import AuditEntry
from eventvault.audit.reading import PAGE, AuditPage
from eventvault.rpc.markers import deadline

NOTE_SECONDS = 5.0


class Audit(Protocol):
    @deadline(NOTE_SECONDS)
    def note_deed(self, entry: AuditEntry) -> None:
        """Write the entry of a deed that another process does, such as a download. It is on a disk when this returns.

        A disk that fails delays this for some seconds at most and raises nothing.
        """

    def count_refused_sign_ins(self, count: int, address: str) -> None:
        """Count refused sign-ins from an address; the sum is written once a minute at most."""

    def read_audit(self, *, after: int = 0, limit: int = PAGE) -> AuditPage:
        """Return the lines after line `after`, oldest first, at most MAX_PAGE. Raises BackupsUnavailable."""

"""The double of the audit: its lines in memory."""

from __future__ import annotations

import threading

from eventvault.audit.lines import NOTHING, AuditEntry, AuditLine, decode_line, digest_of, encode_line
from eventvault.audit.reading import PAGE, AuditPage
from eventvault.store.ports.audit import Audit


class MemoryAudit(Audit):
    def __init__(self) -> None:
        self._lines: list[AuditLine] = []
        self._digest = NOTHING
        self._lock = threading.Lock()

    def note_deed(self, entry: AuditEntry) -> None:
        with self._lock:
            raw = encode_line(entry, len(self._lines) + 1, self._digest)
            line = decode_line(raw)
            assert line is not None, "an entry makes a line"
            self._lines.append(line)
            self._digest = digest_of(raw)

    def count_refused_sign_ins(self, count: int, address: str) -> None:
        """Do nothing; the store writes them once a minute."""

    def read_audit(self, *, after: int = 0, limit: int = PAGE) -> AuditPage:
        return AuditPage(self._lines[after : after + limit], len(self._lines))

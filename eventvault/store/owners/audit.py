"""The audit: it writes the entries of other processes and the refused sign-ins, and reads its lines."""

from __future__ import annotations

import threading
import time
from collections import Counter

from eventvault.audit.deeds import Deeds
from eventvault.audit.lines import AuditEntry
from eventvault.audit.log import AuditLog
from eventvault.audit.reading import MAX_PAGE, PAGE, AuditPage, read_page
from eventvault.damage import as_answer
from eventvault.errors import BackupsUnavailable
from eventvault.store.ports.audit import Audit

SIGN_IN, REFUSED = "sign-in", "refused"
COUNT_SECONDS = 60.0
"""Refused sign-ins are written at most once in this time: somebody who tries many tokens must not fill a disk."""
MAX_ADDRESSES = 20


class AuditOwner(Audit):
    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._deeds = Deeds(audit.write)
        self._refused: Counter[str] = Counter()
        self._written = -COUNT_SECONDS
        self._lock = threading.Lock()

    def note_deed(self, entry: AuditEntry) -> None:
        self._audit.write(entry)

    def count_refused_sign_ins(self, count: int, address: str) -> None:
        with self._lock:
            self._refused[address] += count

    def each_second(self) -> None:
        """Write how many sign-ins were refused since the last time."""
        with self._lock:
            if not self._refused or time.monotonic() - self._written < COUNT_SECONDS:
                return
            refused, self._refused = self._refused, Counter()
            self._written = time.monotonic()
        self._write(refused)

    def stop(self) -> None:
        with self._lock:
            refused, self._refused = self._refused, Counter()
        if refused:
            self._write(refused)

    def _write(self, refused: Counter[str]) -> None:
        most = dict(refused.most_common(MAX_ADDRESSES))
        others = len(refused) - len(most)
        self._deeds.note(
            SIGN_IN, "unknown", result=REFUSED, count=refused.total(), addresses=most, otherAddresses=others
        )

    def read_audit(self, *, after: int = 0, limit: int = PAGE) -> AuditPage:
        try:
            return read_page(self._audit.chain.folder, after, max(1, min(limit, MAX_PAGE)))
        except OSError as error:
            raise as_answer(f"reading {self._audit.chain.folder}", error, BackupsUnavailable) from error

"""Run as a store process that gets stuck, with deadlines of seconds. Its first argument says where.

append       the committer hangs in the write of an event whose id begins with `stuck`
committer, journal, check, repair    that part does not end when the store is asked to
stop         the store does not end at all, and nothing ends it
nowhere      it does not
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import app.store.__main__ as program
from eventvault import progress
from eventvault.backups.late_check import LateCheck
from eventvault.database.commit import Committer
from eventvault.database.registry import EventRegistry
from eventvault.journal.writer import SegmentWriter
from eventvault.restore.table_repair import TableRepair
from eventvault.store import watchdog
from eventvault.store.process import ownership
from eventvault.store.service import StoreService

PARTS: dict[str, tuple[type, str]] = {
    "committer": (Committer, "stop"),
    "journal": (SegmentWriter, "save_record"),
    "check": (LateCheck, "wait"),
    "repair": (TableRepair, "stop"),
    "stop": (StoreService, "stop"),
}


def hang(*_: Any, **__: Any) -> None:
    threading.Event().wait(600)


def main() -> int:
    part = sys.argv.pop(1)
    watchdog.END_SECONDS, watchdog.CHECK_SECONDS, progress.STUCK_SECONDS = 0.5, 0.05, 0.2
    ownership.ACQUIRE_SECONDS, ownership.END_SECONDS = 0.5, 1.0
    program.STOP_SECONDS = 600.0 if part == "stop" else 1.0
    if part in PARTS:
        setattr(*PARTS[part], hang)
    if part == "append":
        append = EventRegistry.append

        def append_or_hang(registry: EventRegistry, batches: Any) -> Any:
            if any(draft.id.startswith("stuck") for batch in batches for draft in batch.drafts):
                hang()
            return append(registry, batches)

        EventRegistry.append = append_or_hang  # type: ignore[method-assign]
    return program.main()


if __name__ == "__main__":
    sys.exit(main())

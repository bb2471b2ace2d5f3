"""`python -m tests.states.stuck_store …`: a store whose committer hangs in the write of the event `stuck`.

Its chores are forks, as those of `tests.crash.store_with_ready_chores`. Health soon says that it is stuck. What waits
for the committer waits for less than a second, and the store does not end itself.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import app.store.__main__ as program
from eventvault import chores, progress
from eventvault.database import commit
from eventvault.database.registry import EventRegistry
from eventvault.store import watchdog
from tests.chore_processes import ChoreServer

SHORT_SECONDS = 0.2


def shorten_waits() -> None:
    progress.STUCK_SECONDS, progress._SLICE_SECONDS = 0.2, 0.05
    watchdog.END_SECONDS, program.STOP_SECONDS = 600.0, 0.2
    commit.QUEUE_SECONDS, commit._CHECK_SECONDS = 1.0, 0.05
    commit.wait_for = partial(progress.wait_for, seconds=SHORT_SECONDS)  # type: ignore[assignment]
    held = progress.Turn.held

    def briefly(
        turn: progress.Turn, seconds: float = progress.WAIT_SECONDS, **options: Any
    ) -> AbstractContextManager[None]:
        of_committer = turn.name == "write of events" and seconds == progress.WAIT_SECONDS
        return held(turn, SHORT_SECONDS if of_committer else seconds, **options)

    progress.Turn.held = briefly  # type: ignore[method-assign, assignment]


def hang_in_a_write() -> None:
    append = EventRegistry.append

    def append_or_hang(registry: EventRegistry, batches: Any) -> Any:
        if any(draft.id == "stuck" for batch in batches for draft in batch.drafts):
            threading.Event().wait(600)
        return append(registry, batches)

    EventRegistry.append = append_or_hang  # type: ignore[method-assign]


if __name__ == "__main__":
    chores.start_process = ChoreServer().start_process  # type: ignore[assignment]
    shorten_waits()
    hang_in_a_write()
    sys.exit(program.main())

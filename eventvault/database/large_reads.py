"""Lets only one thread at a time read events once a large one was met: reading it takes much memory.

That is several times the event: LevelDB holds the block with it, Python the value, and an answer is one more copy. The
answer alone is left once a turn has ended, until the client has taken it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from eventvault.progress import Turn

LARGE_BYTES = 8 * 2**20
"""An event of this size is large: it fills a page or a segment of the journal alone."""


_NOTHING = nullcontext()


class LargeReads:
    """Safe to use from many threads. Nobody waits before a large event was met."""

    def __init__(self) -> None:
        self._turn = Turn("reading of large events")
        self._were_met = False
        self._of_thread = threading.local()

    def note(self, size: int) -> None:
        """Say how large an event is that was read."""
        if size >= LARGE_BYTES:
            self._were_met = True

    def turn(self) -> AbstractContextManager[None]:
        """Wait until nobody else reads large events, if there are any. Raises TooBusy if that reader makes no step.

        A thread takes one turn at a time. Do not wait for it while the database is in use: its closing waits for its
        users.
        """
        return self._held() if self._were_met else _NOTHING

    def answering(self) -> AbstractContextManager[None]:
        """Let the turn of this thread, if it takes one, last until the context is left: until there is an answer."""
        return self._lasting() if self._were_met else _NOTHING

    @contextmanager
    def _held(self) -> Iterator[None]:
        answering: ExitStack | None = getattr(self._of_thread, "answering", None)
        with ExitStack() as own:
            (own if answering is None else answering).enter_context(self._turn.held())
            yield

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._of_thread.answering = stack
            try:
                yield
            finally:
                self._of_thread.answering = None


LARGE_READS = LargeReads()
"""Those of this process: the memory that they share is its own."""

"""Lets only one thread at a time read events once a large event was read: that takes several times its size in memory.

LevelDB holds the event's block, Python the value, and the answer is one more copy. After the turn only the answer
remains in memory, until the client has received it.
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
    """Safe to use from many threads. Nobody waits until a large event was read."""

    def __init__(self) -> None:
        self._turn = Turn("reading of large events")
        self._were_read = False
        self._of_thread = threading.local()

    def note(self, size: int) -> None:
        """Note the size of an event that was read."""
        if size >= LARGE_BYTES:
            self._were_read = True

    def turn(self) -> AbstractContextManager[None]:
        """Wait until no other thread reads large events. Raises TooBusy if that thread makes no progress.

        A thread holds one turn at a time. Do not wait for a turn within `EventBus.using`, because closing the database
        waits for its users.
        """
        return self._held() if self._were_read else _NOTHING

    def answering(self) -> AbstractContextManager[None]:
        """Let this thread keep its turn, if it takes one, until the context is left: until the answer is built."""
        return self._keeping_turn() if self._were_read else _NOTHING

    @contextmanager
    def _held(self) -> Iterator[None]:
        answering: ExitStack | None = getattr(self._of_thread, "answering", None)
        with ExitStack() as own:
            (own if answering is None else answering).enter_context(self._turn.held())
            yield

    @contextmanager
    def _keeping_turn(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._of_thread.answering = stack
            try:
                yield
            finally:
                self._of_thread.answering = None


LARGE_READS = LargeReads()
"""The large reads of this process: they share its memory."""

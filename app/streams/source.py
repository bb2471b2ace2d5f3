"""What one stream sends: the protocol between `app.streams.writer` and its sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """No method waits. One thread calls them.

    ended: nothing follows what `take` returned.
    """

    ended: bool

    def start(self, wake: Callable[[], None]) -> None:
        """Begin. `wake`, from any thread, says that `take` may have something."""

    def take(self) -> bytes:
        """Return whole messages that follow, as many as fit into a piece; empty if there is none now."""

    def comment(self) -> bytes:
        """Return what shows a silent client that the stream lives."""

    def close(self) -> None:
        """Nothing of it is sent any more. Called once, whether it was started or not."""

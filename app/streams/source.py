"""The protocol between `app.streams.writer` and the sources of its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class StreamSource(Protocol):
    """Returns what one stream sends. No method waits. One thread calls them.

    ended: nothing follows what `take` returned.
    """

    ended: bool

    def start(self, wake: Callable[[], None]) -> None:
        """Begin. The source calls `wake`, from any thread, when `take` may return something."""

    def take(self) -> bytes:
        """Return the next whole messages, as many as fit into a piece; empty if there are none now."""

    def comment(self) -> bytes:
        """Return a comment, which shows a silent client that the stream is alive."""

    def close(self) -> None:
        """Release everything: nothing more is sent. Called once, whether it was started or not."""

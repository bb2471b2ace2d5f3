"""Passes on the standard error of a store that a command started, while the command runs.

The store outlives the command. With the command's own standard error it would hold a pipe open, as in
`eventvault backup list 2>&1 | cat`, and whoever reads that pipe would wait for the end of the store.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_BYTES = 2**16


@contextlib.contextmanager
def relayed_errors() -> Iterator[int]:
    """Yield a descriptor for the standard error of a new process; what it writes appears on that of this process.

    The new process never waits for a reader: what does not fit into the pipe is dropped.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_pass_on, args=(reader,), name="relay", daemon=True).start()
    atexit.register(_pass_on_rest, reader)
    try:
        yield writer
    finally:
        os.close(writer)


def _pass_on(reader: int) -> None:
    with contextlib.suppress(OSError):
        while text := os.read(reader, _BYTES):
            _write(text)


def _pass_on_rest(reader: int) -> None:
    """Pass on what the store has written so far, without waiting for more; when this process ends."""
    with contextlib.suppress(OSError):
        os.set_blocking(reader, False)
        while text := os.read(reader, _BYTES):
            _write(text)


def _write(text: bytes) -> None:
    if sys.__stderr__ is not None:
        os.write(sys.__stderr__.fileno(), text)

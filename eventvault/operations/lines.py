"""Progress of a child process: JSON lines on its standard output, before its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from eventvault.operations.operation import Operation

_EVERY_SECONDS = 0.1


class ProgressLines:
    """Writes reports as lines; it adds up reports of bytes and writes them ten times a second at most."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._advanced = 0
        self._written = 0.0

    def report(self, line: dict[str, Any]) -> None:
        with self._lock:
            if "advance" not in line:
                self._flush()
                self._write(orjson.dumps(line) + b"\n")
                return
            self._advanced += line["advance"]
            if time.monotonic() - self._written >= _EVERY_SECONDS:
                self._flush()

    def flush(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._advanced:
            self._write(orjson.dumps({"advance": self._advanced}) + b"\n")
        self._advanced, self._written = 0, time.monotonic()


class LineReader:
    """Passes each line of a child process on to an operation, once. The last, incomplete line is its answer."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._read = 0

    def read(self, output: bytes) -> None:
        """Pass on the new lines. output: all that the child has written so far."""
        end = output.rfind(b"\n") + 1
        for line in output[self._read : end].splitlines():
            self._operation.follow(orjson.loads(line))
        self._read = max(self._read, end)

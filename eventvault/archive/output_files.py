"""Writes the files of an archive that is unpacked: several threads write the pieces of one file."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from eventvault.archive import layout
from eventvault.files import write_at
from eventvault.regular_files import open_handle


class OutputFiles:
    """Files in `folder`. None: nothing is written. flush: let the kernel write each complete file."""

    def __init__(self, folder: Path | None, *, flush: bool = True) -> None:
        self._folder = folder
        self._flush = flush
        self._open: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, size: int, pieces: int) -> None:
        """Create the file `name` of `size` bytes, which `pieces` calls of `write` will fill."""
        if self._folder is None:
            return
        handle = open_handle(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if not pieces:
            os.close(handle)
            return
        with self._lock:
            self._open[name] = (handle, pieces)
        os.posix_fallocate(handle, 0, size)

    def write(self, name: str, number: int, content: memoryview) -> None:
        """Write a piece of the file."""
        if self._folder is None:
            return
        with self._lock:
            handle, remaining = self._open[name]
        write_at(handle, content, number * layout.CHUNK)
        with self._lock:
            handle, remaining = self._open[name]
            self._open[name] = (handle, remaining - 1)
            if remaining > 1:
                return
            del self._open[name]
        if self._flush:
            with suppress(OSError):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)

    def close(self) -> None:
        """Close all files, once no thread writes any more."""
        for handle, _ in self._open.values():
            with suppress(OSError):
                os.close(handle)

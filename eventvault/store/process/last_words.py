"""How the store before this one died: what Python wrote in the moment of a fatal signal, such as SIGBUS.

The file has its size beforehand, so that a full disk does not keep it from being written.
"""

from __future__ import annotations

import faulthandler
import logging
from pathlib import Path
from typing import IO

from eventvault import data_folders

log = logging.getLogger("BackupManager")

_BYTES = 4096
_BUS_ERROR = b"Fatal Python error: Bus error"

_open: list[IO[bytes]] = []
"""The file of this process: it stays open to the end."""


def read_last_words(storage_dir: Path) -> bytes:
    """Return what the store before this one wrote when a signal ended it; empty if none did, or it cannot be read."""
    try:
        return (storage_dir / data_folders.LAST_WORDS).read_bytes().strip(b"\0\n")
    except OSError:
        return b""


def is_bus_error(words: bytes) -> bool:
    """Return whether that store died because a page of a mapped file could not be read."""
    return words.startswith(_BUS_ERROR)


def prepare_last_words(storage_dir: Path) -> None:
    """Let Python write into the file if a fatal signal ends this process. Without the file it says it on stderr."""
    try:
        file = (storage_dir / data_folders.LAST_WORDS).open("w+b", buffering=0)
        file.write(bytes(_BYTES))
        file.seek(0)
    except OSError as error:
        log.warning("%s cannot be written: %s", storage_dir / data_folders.LAST_WORDS, error.strerror)
        faulthandler.enable(all_threads=False)
        return
    _open.append(file)
    faulthandler.enable(file, all_threads=False)

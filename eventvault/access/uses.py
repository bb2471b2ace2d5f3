"""When each token was used last: the time of change of an empty file. Each process updates it once a minute at most."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.files import make_folder
from eventvault.regular_files import open_handle

log = logging.getLogger("eventvault.access")

NOTE_SECONDS = 60.0


class TokenUses:
    """Safe for many threads and processes. Nothing waits for the disk, and nothing fails if it cannot be written."""

    def __init__(self, storage_dir: Path) -> None:
        self._folder = storage_dir / data_folders.TOKEN_USES
        self._next: dict[str, float] = {}

    def note(self, token_id: str) -> None:
        """Note that a token is used now."""
        now = time.monotonic()
        if now < self._next.get(token_id, 0.0):
            return
        self._next[token_id] = now + NOTE_SECONDS
        with suppress(RuntimeError):  # no thread can be started now: the next request tries again in a minute
            threading.Thread(target=self._touch, args=(token_id,), name="token use", daemon=True).start()

    def last_use(self, token_id: str) -> int | None:
        """Return when a token was used last, in microseconds; None if that is unknown."""
        try:
            return (self._folder / token_id).lstat().st_mtime_ns // 1000
        except OSError:
            return None

    def _touch(self, token_id: str) -> None:
        try:
            make_folder(self._folder)
            handle = open_handle(self._folder / token_id, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.utime(handle)
            finally:
                os.close(handle)
        except OSError as error:
            log.debug("could not record that a token was used: %s", error)

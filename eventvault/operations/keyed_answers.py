"""The answers to requests with an `Idempotency-Key` that append no events: a small file for each key.

A request claims its key while it is carried out. If its process is killed, the kernel frees the claim. The file has the
digest of the request and the id of the operation, so a repeated request is carried out under the same id and takes
effect once.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.file_locks import lock_range, open_lock_file
from eventvault.files import make_folder, matching
from eventvault.keyed_request import KEEP_MICROSECONDS, is_expired, key_in_use_error, key_reused_error

_LOCKED_BITS = 62
"""Bits of a lock's offset, which is a positive number of 64 bits."""
_PRUNE_EVERY = 100


class KeyedAnswer(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """at: when the key was used first, in microseconds. content: the SHA-256 in hex of what was sent.

    operation: the id under which the request takes effect once. status: of the answer; 0 before there is one.
    """

    at: int
    content: str
    operation: str
    status: int = 0
    headers: dict[str, str] = {}
    body: str = ""
    format: Literal[1] = 1


class KeyedAnswers:
    """Safe for many threads and processes."""

    def __init__(self, storage_dir: Path, now: clock.Clock = clock.now) -> None:
        self._folder = storage_dir / data_folders.OPERATIONS
        self._now = now
        self._written = 0

    def claim(self, request_id: bytes) -> Claim:
        """Claim a key until `Claim.release`. Raises IdempotencyKeyInUse, NoSpace or OSError."""
        make_folder(self._folder)
        handle = open_lock_file(self._folder / data_folders.KEYS_LOCK)
        try:
            if not lock_range(handle, 0.0, int.from_bytes(request_id[:8], "big") % 2**_LOCKED_BITS):
                raise key_in_use_error()
        except BaseException:
            os.close(handle)
            raise
        return Claim(self, self._folder / f"{request_id.hex()}{data_folders.KEY_SUFFIX}", handle)

    def read(self, path: Path) -> KeyedAnswer | None:
        """Return the answer of a key that was used in the last 24 hours, else None. Raises OSError."""
        answer = small_files.read_or_quarantine(path, KeyedAnswer)
        return None if answer is None or is_expired(answer.at, self._now()) else answer

    def write(self, path: Path, answer: KeyedAnswer) -> None:
        """Write an answer durably. Raises NoSpace or OSError."""
        if self._written % _PRUNE_EVERY == 0:
            self._prune()
        self._written += 1
        small_files.write(path, answer)

    def new_answer(self, content: str) -> KeyedAnswer:
        return KeyedAnswer(self._now(), content, secrets.token_hex(8))

    def _prune(self) -> None:
        """Remove expired files; called before the first write and every 100th."""
        oldest = (self._now() - KEEP_MICROSECONDS) * 1000
        for path in matching(self._folder, f"*{data_folders.KEY_SUFFIX}"):
            with suppress(OSError):
                if path.stat().st_mtime_ns <= oldest:
                    path.unlink()


class Claim:
    """The claim of one key. Only its holder reads and writes the file."""

    def __init__(self, answers: KeyedAnswers, path: Path, handle: int) -> None:
        self._answers = answers
        self._path = path
        self._handle = handle

    def read(self) -> KeyedAnswer | None:
        """Return the answer of the key, else None. Raises OSError."""
        return self._answers.read(self._path)

    def begin(self, content: str) -> KeyedAnswer:
        """Return the answer of the key; for the first request, write durably that it begins.

        Raises IdempotencyKeyReused if the key was used with another content, NoSpace or OSError.
        """
        answer = self.read()
        if answer is None:
            answer = self._answers.new_answer(content)
            self._answers.write(self._path, answer)
        if answer.content != content:
            raise key_reused_error()
        return answer

    def end(self, answer: KeyedAnswer) -> None:
        """Write the answer. Raises NoSpace or OSError."""
        self._answers.write(self._path, answer)

    def forget(self) -> None:
        """Let the next request with the key be the first one."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the key; a second call does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

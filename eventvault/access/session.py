"""Browser sessions: a cookie and a key instead of a token, for as long as that token is valid.

The cookie alone is enough for downloads and streams; with the key too, a session may do what its token may. The file
has the SHA-256 of both, so whoever reads it cannot use a session. No restore touches it.

Each time that a session is used, the worker checks whether the file has changed. One worker at a time writes it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventvault import clock, data_folders, file_locks, small_files
from eventvault.clock import Clock
from eventvault.errors import TooBusy

SESSION_MICROSECONDS = 12 * 3_600_000_000
"""How long a session lasts after its last use."""
MOST_OF_TOKEN = 100
"""Sessions of one token: a further one replaces the one that was not used for the longest time."""

_NOTE_MICROSECONDS = 60_000_000
"""A use is written to the file if the one in the file is older than this."""
_LOCK_SECONDS = 5.0
_TICK_NANOSECONDS = 50_000_000
_SECRET_BYTES = 32
_LONGEST_SECRET = 64
"""Characters of a cookie or key; a longer one is not ours."""


class BrowserSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """cookie, key: their SHA-256 in hex. token: the id of the token. began, used: microseconds since the epoch."""

    cookie: str
    key: str
    token: str
    began: int
    used: int

    def is_live(self, now: int) -> bool:
        """Return whether it has not expired. It also expires if the clock was set back by that long since its use."""
        return abs(now - self.used) < SESSION_MICROSECONDS

    def has_key(self, key: str) -> bool:
        return hmac.compare_digest(self.key, _digest(key))


class NewSession(NamedTuple):
    """The secrets of a new session, for the browser."""

    cookie: str
    key: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    sessions: list[BrowserSession]


class Sessions:
    """The sessions of an installation. Safe for many threads of many processes. Methods may raise OSError."""

    def __init__(self, storage_dir: Path, now: Clock = clock.now) -> None:
        self._path = storage_dir / data_folders.SESSIONS
        self._lock_path = storage_dir / data_folders.SESSIONS_LOCK
        self._now = now
        self._cached: tuple[tuple[int, ...] | None, dict[str, BrowserSession]] = None, {}
        """The identity of the file, and its sessions."""

    def begin(self, token: str) -> NewSession:
        """Begin a session of the token with this id. Raises TooBusy or NoSpace."""
        new = NewSession(secrets.token_urlsafe(_SECRET_BYTES), secrets.token_urlsafe(_SECRET_BYTES))
        now = self._now()
        with self._changing() as sessions:
            session = BrowserSession(_digest(new.cookie), _digest(new.key), token, now, now)
            for surplus in _of_token(sessions, token)[: 1 - MOST_OF_TOKEN]:
                del sessions[surplus.cookie]
            sessions[session.cookie] = session
        return new

    def find(self, cookie: str) -> BrowserSession | None:
        """Return the session of a cookie; None if it is unknown or has ended. Does not check the token."""
        if not cookie or len(cookie) > _LONGEST_SECRET:
            return None
        session = self._read().get(_digest(cookie))
        return session if session is not None and session.is_live(self._now()) else None

    def is_live(self, session: BrowserSession) -> bool:
        """Return whether a session that was found has not ended since."""
        present = self._read().get(session.cookie)
        return present is not None and present.is_live(self._now())

    def note_use(self, session: BrowserSession) -> None:
        """Extend a session to its full life, unless that was done a moment ago or another process is writing the file.

        Raises NoSpace.
        """
        now = self._now()
        if abs(now - session.used) < _NOTE_MICROSECONDS:
            return
        with suppress(TooBusy), self._changing(seconds=0.0) as sessions:
            present = sessions.get(session.cookie)
            if present is not None:
                sessions[session.cookie] = msgspec.structs.replace(present, used=now)

    def end(self, session: BrowserSession) -> None:
        """End a session, in all processes. A second call changes nothing. Raises TooBusy or NoSpace."""
        with self._changing() as sessions:
            sessions.pop(session.cookie, None)

    @contextmanager
    def _changing(self, seconds: float | None = None) -> Iterator[dict[str, BrowserSession]]:
        """Yield the live sessions by their cookies, and write them with the changes that the caller made."""
        with file_locks.holding(self._lock_path, _LOCK_SECONDS if seconds is None else seconds) as locked:
            if not locked:
                raise TooBusy("another process is writing the list of sessions", hint="try again in a moment")
            now = self._now()
            sessions = {cookie: session for cookie, session in self._read().items() if session.is_live(now)}
            yield sessions
            small_files.write(self._path, _File(1, list(sessions.values())), mode=0o600)

    def _read(self) -> dict[str, BrowserSession]:
        """Return the sessions in the file, which is read again only if it has changed."""
        identity = _identity(self._path)
        cached_identity, by_cookie = self._cached
        if identity is None or identity != cached_identity:
            file = small_files.read_or_quarantine(self._path, _File)
            by_cookie = {session.cookie: session for session in file.sessions} if file else {}
            self._cached = identity, by_cookie
        return by_cookie


def _of_token(sessions: dict[str, BrowserSession], token: str) -> list[BrowserSession]:
    """Return the sessions of a token, the one whose last use is oldest first."""
    return sorted((session for session in sessions.values() if session.token == token), key=attrgetter("used"))


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes whenever the file is replaced; None if there is no file, or if it is too new to tell.

    A file system may give the next file the same inode and, within a tick of its clock, the same instant.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    is_new = abs(time.time_ns() - status.st_mtime_ns) < _TICK_NANOSECONDS
    return None if is_new else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()

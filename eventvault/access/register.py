"""The tokens that count now: those of `tokens.json` and of the settings, checked again once a second.

A request uses the result of the newest check, so it costs a lookup of a digest. Another thread checks BACKUP_DIR, whose
disk may not answer: that delays no request.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from eventvault import clock, scopes, token_text
from eventvault.access.configured import ConfiguredTokens
from eventvault.access.credential import Credential
from eventvault.access.joining import Joined, gone_at, join
from eventvault.access.token_file import Copy, FileCondition, TokenFile
from eventvault.access.token_files import TokenFiles
from eventvault.clock import Clock
from eventvault.errors import EventVaultError, TokenWrong
from eventvault.settings import Settings
from eventvault.token_text import ConfiguredToken, digest_of

log = logging.getLogger("eventvault.access")

CHECK_SECONDS = 0.5
"""How long a check of STORAGE_DIR counts."""
BACKUPS_SECONDS = 5.0
"""The same for BACKUP_DIR, where only other programs change files."""
NEW_SECONDS = 0.01
"""An unknown token causes a check at once, but at most one in this time, however many wrong ones come."""
FIRST_SECONDS = 5.0
"""How long the first request waits for both folders."""
PATIENCE_SECONDS = 2.0
"""How long a request waits for a check of STORAGE_DIR; after that the earlier result counts."""
SETTLE_SECONDS = 60.0
"""Seconds between two attempts to write a copy that lacks something."""
LONGEST_TOKEN = 256
"""Characters. Tokens of API_TOKENS may have another form than ours."""


@dataclass(frozen=True)
class ValidTokens:
    """The tokens that count now. configured: those of the settings. file_problem: why API_TOKENS_FILE is ignored."""

    joined: Joined
    configured: tuple[ConfiguredToken, ...] = ()
    closed: bool = False
    file_problem: str = ""
    credentials: dict[bytes, Credential] = field(default_factory=dict, repr=False)
    revoked: frozenset[str] = frozenset()

    def credential_of(self, token: str, now: Clock) -> Credential:
        """Return whose token this is. Raises TokenWrong, whose message says why it is not valid."""
        if len(token) > LONGEST_TOKEN:
            raise TokenWrong("the token is longer than any token", hint=_HINT)
        credential = self.credentials.get(digest_of(token))
        if credential is None:
            raise self._wrong(token)
        if credential.has_expired(now):
            when = clock.format_milliseconds(credential.expires or 0)
            raise TokenWrong(f"the token {credential.token_id} expired at {when}", hint=_HINT)
        return credential

    def credential_of_id(self, token_id: str, now: Clock) -> Credential | None:
        """Return whose token has this id, None if it is not valid."""
        for credential in self.credentials.values():
            if credential.token_id == token_id and not credential.has_expired(now):
                return credential
        return None

    def _wrong(self, token: str) -> TokenWrong:
        configured_id = token_text.id_of_digest(digest_of(token))
        token_id = configured_id if configured_id in self.revoked else token_text.id_of(token)
        if token_id is None:
            return TokenWrong("the token is malformed, and none of API_TOKENS", hint=_HINT)
        if token_id != configured_id and not token_text.is_whole(token):
            return TokenWrong("the token has a typing error: its checksum is wrong", hint=_HINT)
        state = "was revoked" if token_id in self.revoked else "is not known here"
        return TokenWrong(f"the token {token_id} {state}", hint=_HINT)


_HINT = "send a valid one: `flask tokens list` shows the tokens, `flask tokens create` makes one"


def combine(
    joined: Joined, configured: tuple[ConfiguredToken, ...], *, is_configured: bool, problem: str
) -> ValidTokens:
    """Return the tokens of files and settings that count. is_configured: a setting names tokens or a file of them."""
    content = joined.content
    revoked = frozenset() if content is None else frozenset(token.id for token in content.revoked)
    credentials = {} if content is None else _credentials(content)
    for token in configured:
        if token.id not in revoked:
            credentials[token.digest] = Credential(token.name, token.id, token.scopes)
    return ValidTokens(joined, configured, joined.closed or is_configured, problem, credentials, revoked)


def _credentials(content: TokenFile) -> dict[bytes, Credential]:
    credentials = {}
    for token in content.tokens:
        with suppress(ValueError):  # a scope of another version
            granted = scopes.parse(token.scope)
            credentials[bytes.fromhex(token.digest)] = Credential(token.name, token.id, granted, token.expires)
    return credentials


class TokenRegister:
    """Safe for many threads, and for a process that forks before its first use."""

    def __init__(self, settings: Settings, now: Clock = clock.now) -> None:
        self._files = TokenFiles(settings)
        self._configured = ConfiguredTokens(settings)
        self._now = now
        self._in_backups = Copy(self._files.in_backups, FileCondition.ABSENT)
        self._seen: object = None
        self._numbers = itertools.count()
        self._newest_number = 0
        self._lock = threading.Lock()
        self._current = _UNKNOWN
        self._next_settling = 0.0
        self._next_check_for_new = 0.0
        self._storage_checks = Checks(
            self._check_storage, every=CHECK_SECONDS, patience=PATIENCE_SECONDS, first=FIRST_SECONDS
        )
        self._backups_checks = Checks(self._check_backups, every=BACKUPS_SECONDS, patience=0.0, first=FIRST_SECONDS)

    def current(self) -> ValidTokens:
        """Return the tokens that count now. The answer is at most a second old, unless STORAGE_DIR does not answer."""
        now = time.monotonic()
        if now >= self._backups_checks.counts_until:
            self._backups_checks.refresh()
        if now >= self._storage_checks.counts_until:
            self._storage_checks.refresh()
        return self._current

    def credential_of(self, token: str) -> Credential:
        """Return whose token this is. Raises TokenWrong, whose message says why it is not valid."""
        try:
            return self.current().credential_of(token, self._now)
        except TokenWrong:
            if not self._check_for_new():
                raise
        return self.current().credential_of(token, self._now)

    def credential_of_id(self, token_id: str) -> Credential | None:
        """Return whose token has this id, None if it is not valid."""
        credential = self.current().credential_of_id(token_id, self._now)
        if credential is None and self._check_for_new():
            credential = self.current().credential_of_id(token_id, self._now)
        return credential

    def is_live(self, token_id: str) -> bool:
        """Return whether the token of this id, which was valid, still is."""
        return self.current().credential_of_id(token_id, self._now) is not None

    def _check_for_new(self) -> bool:
        """Let the next request see a token that another process has just made. False: one did a moment ago."""
        now = time.monotonic()
        if now < self._next_check_for_new:
            return False
        self._next_check_for_new = now + NEW_SECONDS
        self.check_again()
        return True

    def check_again(self) -> None:
        """Have the next request check what another process changed."""
        self._storage_checks.expire()

    def check_now(self) -> None:
        """Check what this process has just changed; the files answered a moment ago."""
        self._check_storage()

    def _check_storage(self) -> None:
        number = next(self._numbers)
        seen = (self._files.identity(), self._in_backups, self._configured.identity())
        if seen == self._seen:
            return
        joined = join(self._files.read_storage(), self._in_backups, marked=self._files.is_marked())
        configured, problem = self._configured.read_or_keep()
        tokens = combine(joined, configured, is_configured=self._configured.is_set, problem=problem)
        with self._lock:
            if number < self._newest_number:  # a check that began later has ended before this one
                return
            self._newest_number = number
            before, self._current = self._current, self._stay_closed(tokens)
            self._seen = seen
        if before is not _UNKNOWN and before.closed != self._current.closed:
            log.warning(_NOW_CLOSED if self._current.closed else _NOW_OPEN)

    def _check_backups(self) -> None:
        self._in_backups = self._files.read_backups()
        if self._current.joined.is_unsettled and time.monotonic() >= self._next_settling:
            self._next_settling = time.monotonic() + SETTLE_SECONDS
            try:
                self._files.settle()
            except EventVaultError as error:
                log.warning("could not write a copy of the tokens: %s", error)

    def _stay_closed(self, tokens: ValidTokens) -> ValidTokens:
        """Return the tokens; closed if the service was closed and the files have vanished while it runs."""
        is_gone = self._current.closed and self._current is not _UNKNOWN and tokens.joined.content is None
        if tokens.closed or not is_gone:
            return tokens
        doubts = (*tokens.joined.doubts, gone_at(self._files.in_storage))
        return replace(tokens, closed=True, joined=replace(tokens.joined, closed=True, doubts=doubts))


class Checks:
    """Checks files in a thread, one check at a time, so that a disk that does not answer delays no request for long.

    every: for how many seconds a check counts. patience: how long `refresh` waits for a check that runs; first: how
    long for the first one. counts_until: until when the newest check counts, in monotonic seconds.
    """

    def __init__(self, check: Callable[[], None], *, every: float, patience: float, first: float | None = None) -> None:
        self._check = check
        self._every = every
        self._patience = patience
        self._first = patience if first is None else first
        self.counts_until = -math.inf
        self._expired = -math.inf
        self._running: _Running | None = None
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Check again if the newest check no longer counts, and wait for the result, at most for the patience."""
        if not self._await_check() and time.monotonic() >= self.counts_until:
            self._await_check()  # the check that ended had begun before `expire`

    def _await_check(self) -> bool:
        """Wait for the check that runs, or for a new one. Returns whether this began it, or gave up waiting."""
        if time.monotonic() < self.counts_until:
            return True
        with self._lock:
            running, begins = self._running, self._running is None
            if running is None:
                is_first = self.counts_until == -math.inf
                running = self._running = _Running(time.monotonic() + (self._first if is_first else self._patience))
        if begins:
            self._begin(running)
        return not running.ended.wait(max(0.0, running.awaited_until - time.monotonic())) or begins

    def expire(self) -> None:
        """Let the next `refresh` check again, even if a check runs now."""
        self._expired = time.monotonic()
        self.counts_until = min(self.counts_until, 0.0)

    def _begin(self, running: _Running) -> None:
        try:
            threading.Thread(target=self._run, args=(running,), name="tokens", daemon=True).start()
        except RuntimeError:  # no thread can be started now
            self._run(running)

    def _run(self, running: _Running) -> None:
        began = time.monotonic()
        try:
            self._check()
        except Exception:
            log.exception("checking the tokens failed; what was known before stays in force")
        self.counts_until = began + self._every if began >= self._expired else 0.0
        self._running = None
        running.ended.set()


class _Running:
    def __init__(self, awaited_until: float) -> None:
        self.awaited_until = awaited_until
        self.ended = threading.Event()


_NOW_CLOSED = "the service is closed from now on, because there are tokens: each request needs one"
_NOW_OPEN = "the service is open from now on, because tokens were disabled"
_UNKNOWN = ValidTokens(Joined(closed=True), closed=True)
"""Before the first check: no token is valid."""

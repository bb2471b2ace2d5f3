"""Browser sessions in requests: the cookie `__Host-ev`, and beside it the session's key in `X-EventVault-Session`."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from flask import request

from app.access.table import Need
from eventvault.access.credential import Credential
from eventvault.access.register import TokenRegister
from eventvault.access.session import BrowserSession, NewSession, Sessions
from eventvault.damage import SYSTEM_ERRORS
from eventvault.errors import EventVaultError, Forbidden, SessionEnded, SessionKeyMissing

log = logging.getLogger("eventvault.access")

COOKIE = "__Host-ev"
KEY_HEADER = "X-EventVault-Session"
SIGNED_IN = "eventvault.session"
"""The key in the environ of a request under which its session is stored once it was authenticated."""

_OWN_PAGE = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of a link in a page of this service, and of an address that its user typed."""
_RETRY_SECONDS = 60.0
"""Seconds until the next attempt, after a use could not be recorded."""


class SignedIn(NamedTuple):
    session: BrowserSession
    credential: Credential


class BrowserSessions:
    """The sessions of an installation, as its requests use them. Safe for many threads."""

    def __init__(self, sessions: Sessions, tokens: TokenRegister) -> None:
        self._sessions = sessions
        self._tokens = tokens
        self._next_note = 0.0

    def signed_in(self, need: Need) -> SignedIn | None:
        """Return the session of this request and its credential; None if the request has no session cookie.

        Raises SessionEnded, SessionKeyMissing, or Forbidden for a page of another site.
        """
        signed_in = self._authenticate_cookie()
        if signed_in is None:
            return None
        key = request.headers.get(KEY_HEADER)
        if key is None and need.opens_by_cookie:
            _refuse_other_pages()
        elif key is None or not signed_in.session.has_key(key):
            raise SessionKeyMissing(
                f"{request.method} {request.path} needs the key of the session too",
                hint=f"send what POST /api/session answered, as {KEY_HEADER}, or sign in again",
            )
        self._note_use(signed_in.session)
        request.environ[SIGNED_IN] = signed_in.session
        return signed_in

    def begin(self, credential: Credential) -> NewSession:
        """Begin a session. The browser's earlier one ends, as its cookie is replaced. Raises TooBusy or NoSpace."""
        assert credential.token_id is not None
        before = self._find_session()
        new = self._sessions.begin(credential.token_id)
        if before is not None:
            self._sessions.end(before)
        return new

    def end(self) -> None:
        """End the session of the current request, if it has one. Raises TooBusy or NoSpace."""
        session = session_of_request()
        if session is not None:
            self._sessions.end(session)

    def is_live(self, session: BrowserSession) -> bool:
        return self._tokens.is_live(session.token) and self._sessions.is_live(session)

    def _authenticate_cookie(self) -> SignedIn | None:
        if "HTTP_COOKIE" not in request.environ or COOKIE not in request.cookies:
            return None
        session = self._find_session()
        credential = None if session is None else self._tokens.credential_of_id(session.token)
        if session is None or credential is None:
            raise SessionEnded(
                "the session is over: it was not used for 12 hours, was ended, or its token is not valid any more",
                hint="sign in again",
            )
        return SignedIn(session, credential)

    def _find_session(self) -> BrowserSession | None:
        cookies = request.cookies.getlist(COOKIE)
        return self._sessions.find(cookies[0]) if len(cookies) == 1 else None

    def _note_use(self, session: BrowserSession) -> None:
        """Extend the session by its full life. If that cannot be written, the expiry does not change."""
        if time.monotonic() < self._next_note:
            return
        try:
            self._sessions.note_use(session)
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            self._next_note = time.monotonic() + _RETRY_SECONDS
            log.warning("could not record that a session was used: %s", error)


def session_of_request() -> BrowserSession | None:
    """Return the session that authenticated the current request."""
    session: BrowserSession | None = request.environ.get(SIGNED_IN)
    return session


def _refuse_other_pages() -> None:
    """Refuse a request from a page of another port of this host: browsers send the cookie with it too."""
    if request.environ.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN_PAGE:
        raise Forbidden(
            "a page of another site or port sent this request", hint="open the page that this service serves"
        )

"""Checks each request before anything else is done with it: its origin, its token, and what the token may do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

from flask import Flask, Request, request

from app.access import CREDENTIAL
from app.access.cookies import BrowserSessions, session_of_request
from app.access.origin import OriginRules
from app.access.permission import Permission, end_without
from app.access.sign_ins import SignIns
from app.access.table import ANY_TOKEN, Need, need_of
from app.bodies import hold_body
from eventvault import clock, json_text, scopes
from eventvault.access.credential import EVERYBODY, NOBODY, Credential
from eventvault.access.register import TokenRegister, ValidTokens
from eventvault.access.uses import TokenUses
from eventvault.errors import (
    EventVaultError,
    MalformedInput,
    ScopeMissing,
    SessionEnded,
    SessionKeyMissing,
    TokenMissing,
    TokenWrong,
)
from eventvault.operations import caller
from eventvault.settings import Settings
from eventvault.token_text import PREFIX, holds_token

_BEARER = re.compile(r"Bearer +([!-+\--~]+) *", re.IGNORECASE | re.ASCII)
"""One token: a server joins two headers of the same name with a comma."""
_QUERY_NAMES = re.compile(r"access_token|api_token|auth_token|bearer|token", re.IGNORECASE)


MOST_PASSED = 1000
"""Pairs of a token and a route that are remembered at a time."""


class _Passed:
    """The credentials of requests whose token passed while `tokens` are in force, by header, endpoint and method."""

    def __init__(self, tokens: ValidTokens | None) -> None:
        self.tokens = tokens
        self.credentials: dict[tuple[str, str | None, str], Credential] = {}


class FrontDoor:
    """Checks each request to an application. `learn_routes` must be called once the application has all its routes."""

    def __init__(
        self, settings: Settings, register: TokenRegister, sign_ins: SignIns, sessions: BrowserSessions
    ) -> None:
        self._rules = OriginRules(settings)
        self._register = register
        self._sign_ins = sign_ins
        self._sessions = sessions
        self._uses = TokenUses(settings.storage_dir)
        self._needs: dict[tuple[str | None, str], Need] = {}
        self._passed = _Passed(None)

    def learn_routes(self, app: Flask) -> None:
        """Remember what each route of the application needs."""
        for rule in app.url_map.iter_rules():
            for method in rule.methods or ():
                self._needs[rule.endpoint, method] = need_of(method, rule.rule)

    def check(self) -> None:
        """Store the credential of the current request, or raise the error with which the request is refused."""
        current: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy would cost each time
        environ = current.environ
        _refuse_token_in_address(environ["PATH_INFO"], environ.get("QUERY_STRING"))
        present = self._register.current()
        self._rules.check(environ, closed=present.closed)
        credential = self._credential(current, present) if present.closed else EVERYBODY
        if credential.token_id is None:
            self._rules.check_host(environ, closed=present.closed)
        else:
            self._uses.note(credential.token_id)
        end_without(*self._permission_of(credential))
        environ[CREDENTIAL] = credential
        caller.use(credential.caller)

    def _credential(self, current: Request, present: ValidTokens) -> Credential:
        """Return the request's credential, from memory if its token passed before and no token has changed since."""
        header = current.environ.get("HTTP_AUTHORIZATION")
        if header is None:
            return self._examine(current.environ)[0]
        passed = self._passed
        if passed.tokens is not present:
            passed = self._passed = _Passed(present)
        key = (header, current.endpoint, current.method)
        credential = passed.credentials.get(key)
        if credential is not None and not credential.has_expired(clock.now):
            return credential
        credential, by_scope = self._examine(current.environ)
        if by_scope and len(passed.credentials) < MOST_PASSED:
            passed.credentials[key] = credential
        return credential

    def _examine(self, environ: Mapping[str, Any]) -> tuple[Credential, bool]:
        """Return the request's credential, and whether a scope alone decided that it passes.

        Raises TokenMissing, ScopeMissing, or what `_authenticate` raises.
        """
        need = ANY_TOKEN if request.endpoint is None else self._needs[request.endpoint, request.method]
        if need.is_public:
            return NOBODY, False
        credential = self._authenticate(environ, need)
        if credential is None:
            if need.is_optional:
                return NOBODY, False
            raise TokenMissing(f"{request.method} {request.path} needs a token", hint=_HOW)
        by_scope = bool(need.scopes & credential.included)
        if not (by_scope or need.is_optional or _only_reads(need, credential)):
            raise _scope_missing(need, credential)
        return credential, by_scope

    def _authenticate(self, environ: Mapping[str, Any], need: Need) -> Credential | None:
        """Return the credential of the request's token or session, None if it has neither.

        Raises TokenWrong, TooManyWrongTokens, SessionEnded, SessionKeyMissing or Forbidden.
        """
        header = environ.get("HTTP_AUTHORIZATION")
        if header is None:
            return self._authenticate_session(need)
        address = environ.get("REMOTE_ADDR") or ""
        bearer = _BEARER.fullmatch(header)
        if bearer is None:
            raise self._sign_ins.refusal(TokenWrong("the Authorization header is malformed", hint=_HOW), address)
        return self._sign_ins.credential_of(bearer[1], address)

    def _authenticate_session(self, need: Need) -> Credential | None:
        try:
            signed_in = self._sessions.signed_in(need)
        except (SessionEnded, SessionKeyMissing):
            if need.is_optional:
                return None
            raise
        return None if signed_in is None else signed_in.credential

    def _permission_of(self, credential: Credential) -> tuple[Permission | None, type[EventVaultError]]:
        """Return a function that says whether a request may still get its answer, and the error if not.

        None in place of the function: it may in any case.
        """
        if credential is NOBODY:
            return None, TokenMissing
        if credential.token_id is None:
            return lambda: not self._register.current().closed, TokenMissing
        session = session_of_request()
        if session is None:
            return partial(self._register.is_live, credential.token_id), TokenWrong
        return partial(self._sessions.is_live, session), SessionEnded


def _only_reads(need: Need, credential: Credential) -> bool:
    """Return whether the body asks only to read, and the credential may `read`."""
    if not need.reads or not credential.may(scopes.READ):
        return False
    return need.only_reads(json_text.parse_object(hold_body(), request.content_type))


def _scope_missing(need: Need, credential: Credential) -> ScopeMissing:
    needed = " or ".join(scope for scope in scopes.SCOPES if scope in need.scopes)
    return ScopeMissing(
        f"the token {credential.name} ({scopes.text_of(credential.scopes)}) may not {request.method} {request.path}, "
        f"which needs {needed}",
        hint=f"use a token with this scope: flask tokens create NAME --scope {needed.partition(' ')[0]}",
        scope=needed,
    )


def _refuse_token_in_address(path: str, query: str | None) -> None:
    in_query = query and (_names_a_token(query) or holds_token(unquote_plus(query)))
    if in_query or (PREFIX in path and holds_token(path)):
        raise MalformedInput(
            "the address has a token, and addresses end up in logs; the request was not looked at",
            hint="send it as a header, Authorization: Bearer ev_…, and replace it: flask tokens rotate NAME --now",
        )


def _names_a_token(query: str) -> bool:
    """Return whether a parameter has the name of a token, whatever its value: API_TOKENS may have any form."""
    pairs = (pair.partition("=") for pair in re.split("[&;]", query))
    return any(equals and _QUERY_NAMES.fullmatch(unquote_plus(name)) for name, equals, _ in pairs)


_HOW = "send one as a header, Authorization: Bearer ev_…; `flask tokens create NAME --scope SCOPE` makes one"

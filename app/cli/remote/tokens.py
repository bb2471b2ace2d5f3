"""The tokens of a service on another machine; `eventvault.access.changes` has those of this machine."""

from __future__ import annotations

from typing import Any

import msgspec

from app.cli.remote import errors
from app.cli.remote.answers import instant_of, reads
from app.cli.remote.calls import path_of_token
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import get, post, with_json, without_key
from eventvault.access.changes import MadeToken, RevokedTokens
from eventvault.access.token_file import Revoked, Token

_PATH = "/api/tokens"


class _Previous(msgspec.Struct):
    id: str
    expires: str | None = None


class _Made(msgspec.Struct, rename="camel"):
    token: str
    id: str
    name: str
    scope: str
    created: str | None = None
    expires: str | None = None
    made_by: str = msgspec.field(name="from", default="")
    previous: _Previous | None = None
    copy_problem: str | None = None


class _Ended(msgspec.Struct, rename="camel"):
    id: str
    name: str
    revoked: str | None = None
    copy_problem: str | None = None


class _Tokens(msgspec.Struct):
    tokens: list[dict[str, Any]]


def _made(answer: _Made) -> MadeToken:
    token = Token(
        id=answer.id,
        name=answer.name,
        scope=answer.scope,
        digest="",
        created=instant_of(answer.created) or 0,
        by=answer.made_by,
        expires=instant_of(answer.expires),
    )
    old = answer.previous
    previous = None if old is None else msgspec.structs.replace(token, id=old.id, expires=instant_of(old.expires))
    return MadeToken(answer.token, token, previous, answer.copy_problem)


class RemoteTokens:
    """The tokens of a service. It records by which token a new one was requested, so `by` is ignored here."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store

    def list_tokens(self) -> list[dict[str, Any]]:
        tokens: list[dict[str, Any]] = self._store.read(get(_PATH), reads(_Tokens, lambda answer: answer.tokens))
        return tokens

    def is_closed(self) -> bool:
        return bool(self.list_tokens())

    def create(self, name: str, scope: str, *, by: str, expires: str | None = None) -> MadeToken:
        return self._make({"name": name, "scope": scope, "expires": expires})

    def rotate(self, name: str, *, by: str, at_once: bool = False) -> MadeToken:
        return self._make({"rotate": name, "now": at_once})

    def revoke(self, token_id: str, *, by: str) -> RevokedTokens:
        request = without_key(with_json("DELETE", path_of_token(token_id)), repeatable=True)

        def read(answer: _Ended) -> RevokedTokens:
            revoked = Revoked(answer.id, answer.name, instant_of(answer.revoked) or 0, by)
            return RevokedTokens([revoked], answer.copy_problem)

        ended: RevokedTokens = self._store.read(request, reads(_Ended, read))
        return ended

    def require_openable(self) -> None:
        """Raise RemoteError, as `disable` does."""
        self.disable(by="")

    def disable(self, *, by: str) -> RevokedTokens:
        """Raise RemoteError: whoever opens a service has to reach its machine."""
        raise errors.not_over_http("opening the service to everybody")

    def _make(self, members: dict[str, Any]) -> MadeToken:
        made: MadeToken = self._store.read(without_key(post(_PATH, members)), reads(_Made, _made))
        return made

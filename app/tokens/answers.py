"""The answers to changes of the tokens, over HTTP and with `--json`."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.access.changes import MadeToken, RevokedTokens
from eventvault.access.token_file import Revoked, Token


def made_json(made: MadeToken) -> dict[str, Any]:
    """Return the answer to `create` and `rotate`: the only one that has the token itself."""
    answer = {"token": made.text, **token_json(made.token)}
    if made.previous is not None:
        answer["previous"] = {"id": made.previous.id, "expires": clock.optional_milliseconds(made.previous.expires)}
    return answer | _copy_problem(made.unwritten)


def token_json(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "created": clock.format_milliseconds(token.created),
        "expires": clock.optional_milliseconds(token.expires),
        "from": token.by,
    }


def ended_json(ended: RevokedTokens) -> dict[str, Any]:
    """Return the answer to `revoke`."""
    return _revoked_json(ended.tokens[0]) | _copy_problem(ended.unwritten)


def disabled_json(ended: RevokedTokens) -> dict[str, Any]:
    """Return the answer to `disable`."""
    return {"revoked": [_revoked_json(token) for token in ended.tokens]} | _copy_problem(ended.unwritten)


def _copy_problem(unwritten: str | None) -> dict[str, Any]:
    return {} if unwritten is None else {"copyProblem": unwritten}


def _revoked_json(revoked: Revoked) -> dict[str, Any]:
    return {"id": revoked.id, "name": revoked.name, "revoked": clock.format_milliseconds(revoked.at)}

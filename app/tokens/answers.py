"""What a change of the tokens is answered, over HTTP and with `--json`."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.access.changes import Made
from eventvault.access.token_file import Revoked, Token


def made_json(made: Made) -> dict[str, Any]:
    """Return the answer to `create` and `rotate`: the only one that has the token itself."""
    answer = {"token": made.text, **token_json(made.token)}
    if made.previous is not None:
        answer["previous"] = {"id": made.previous.id, "expires": _instant(made.previous.expires)}
    if made.unwritten is not None:
        answer["copyProblem"] = made.unwritten
    return answer


def token_json(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "created": _instant(token.created),
        "expires": _instant(token.expires),
        "from": token.by,
    }


def revoked_json(revoked: Revoked) -> dict[str, Any]:
    return {"id": revoked.id, "name": revoked.name, "revoked": _instant(revoked.at)}


def _instant(instant: int | None) -> str | None:
    return None if instant is None else clock.format_milliseconds(instant)

"""Checks query strings: each route rejects unknown parameters and parameters that are repeated.

Ignoring `?dryRun=true` on a route that does not know it would run what the client wanted to try.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from flask import Response, request

from eventvault.errors import InvalidInput

Params = ParamSpec("Params")

_IN_BODY = "send options as members of the JSON object in the body"
_NOWHERE = "remove it; GET /openapi.json lists the parameters of each address"


def reject_repeated_parameters() -> None:
    """Raise InvalidInput if a query parameter is repeated: it is not defined which value would count."""
    if not request.query_string:
        return
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise _invalid_query(repeated, "Given more than once.", "send each parameter once")


def accepts_parameters(
    *parameters: str, body: bool = False
) -> Callable[[Callable[Params, Response]], Callable[Params, Response]]:
    """Let a view accept these query parameters and no others. body: the hint says that options belong there."""

    def decorate(view: Callable[Params, Response]) -> Callable[Params, Response]:
        @functools.wraps(view)
        def checked(*args: Params.args, **kwargs: Params.kwargs) -> Response:
            unknown = [name for name in request.args if name not in parameters] if request.query_string else []
            if unknown:
                raise _invalid_query(unknown, "Unknown field.", _IN_BODY if body else _NOWHERE)
            return view(*args, **kwargs)

        return checked

    return decorate


def _invalid_query(names: list[str], why: str, hint: str) -> InvalidInput:
    return InvalidInput(
        f"the address is not valid: {', '.join(name[:80] for name in names)}",
        hint=hint,
        fields={name: [why] for name in names},
    )

"""What may stand behind the `?` of an address: nothing that its route does not know, and nothing twice.

Whoever writes `?dryRun=true` where it is not looked at must not be taken for somebody who means it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from flask import Response, request

from eventvault.errors import InvalidInput

Params = ParamSpec("Params")

_IN_BODY = "options go into the body, as members of its JSON object"
_NOWHERE = "leave it out; GET /openapi.json says what each address takes"


def reject_repeated_parameters() -> None:
    """Before a request: of two values one would be taken, and nothing would say which. Raises InvalidInput."""
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise _invalid_query(repeated, "Given more than once.", "give each once")


def accepts_parameters(
    *parameters: str, body: bool = False
) -> Callable[[Callable[Params, Response]], Callable[Params, Response]]:
    """For a view that has no schema of its query: it takes these parameters and no others.

    body: its options are members of the body, which the hint then says.
    """

    def decorate(view: Callable[Params, Response]) -> Callable[Params, Response]:
        @functools.wraps(view)
        def checked(*args: Params.args, **kwargs: Params.kwargs) -> Response:
            unknown = [name for name in request.args if name not in parameters]
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

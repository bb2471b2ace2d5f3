"""`?async=true` and `Prefer: respond-async`: a request that begins an operation and does not wait for its end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from flask import Response, request

from app.edge import current_store
from app.operations.answers import operation_json
from app.replies import reply
from eventvault.errors import InvalidInput
from eventvault.operations.caller import Caller, OperationBegun, calling, present_caller

Params = ParamSpec("Params")

ASYNC = "async"
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def begins_operation(view: Callable[Params, Response]) -> Callable[Params, Response]:
    """Let a view, whose call of the store is an operation, answer 202 where the client does not want to wait."""

    @functools.wraps(view)
    def answer(*args: Params.args, **kwargs: Params.kwargs) -> Response:
        preferred = _prefers_async()
        asynchronous = _asked() if ASYNC in request.args else preferred
        try:
            with calling(Caller(present_caller().started_by, asynchronous=asynchronous)):
                return view(*args, **kwargs)
        except OperationBegun as begun:
            accepted = accepted_reply(begun.operation_id)
        if preferred:
            accepted.headers["Preference-Applied"] = "respond-async"
        return accepted

    return answer


def accepted_reply(operation_id: str) -> Response:
    """Answer 202 with the operation and its address."""
    operation = current_store().get_operation(operation_id)
    accepted = reply({"success": True, "operation": operation_json(operation)}, 202)
    accepted.headers["Location"] = f"/api/operations/{operation_id}"
    return accepted


def _asked() -> bool:
    value = request.args[ASYNC].lower()
    if value not in _BOOLEANS:
        raise InvalidInput(
            f"the address is not valid: {ASYNC}",
            hint="send ?async=true to be answered before the work is done, or leave it out to wait",
            fields={ASYNC: ["Not a boolean."]},
        )
    return _BOOLEANS[value]


def _prefers_async() -> bool:
    """Return whether the header has the preference of RFC 7240, beside others and in any case."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)

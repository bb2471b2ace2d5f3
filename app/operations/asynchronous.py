"""`?async=true` and `Prefer: respond-async`: a request that begins an operation and does not wait for its end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from apispec import APISpec
from flask import Response, request

from app.edge import current_store
from app.operations.answers import operation_json
from app.operations.schemas import OneOperationSchema
from app.replies import JSON, reply
from eventvault.errors import InvalidInput
from eventvault.operations.caller import Caller, OperationBegun, calling, current_caller

Params = ParamSpec("Params")

ASYNC = "async"
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_BEGUN = "OperationBegun"
_PARAMETERS: dict[str, dict[str, Any]] = {
    "Asynchronous": {
        "name": ASYNC, "in": "query", "schema": {"type": "string", "enum": list(_BOOLEANS)},
        "description": "`true`: answer 202 once the operation has begun.",
    },
    "Prefer": {
        "name": "Prefer", "in": "header", "schema": {"type": "string"},
        "description": "`respond-async` means the same as `async=true`; `async` takes precedence.",
    },
}  # fmt: skip


def begins_operation(view: Callable[Params, Response]) -> Callable[Params, Response]:
    """Let a view, whose call of the store is an operation, answer 202 where the client does not want to wait."""

    @functools.wraps(view)
    def answer(*args: Params.args, **kwargs: Params.kwargs) -> Response:
        preferred = _prefers_async()
        asynchronous = _parse_async() if ASYNC in request.args else preferred
        try:
            with calling(Caller(current_caller().started_by, asynchronous=asynchronous)):
                return view(*args, **kwargs)
        except OperationBegun as begun:
            accepted = accepted_reply(begun.operation_id)
        if preferred:
            accepted.headers["Preference-Applied"] = "respond-async"
        return accepted

    answer._apidoc = {"response": {"responses": {202: [_BEGUN]}}, "success_status_codes": [202]}  # type: ignore[attr-defined]
    return answer


def describe(spec: APISpec) -> None:
    """Add the answer 202, and the parameters that ask for it, to each documented request that begins an operation."""
    content = {JSON: {"schema": OneOperationSchema}}
    description = "The operation has begun; `Location` has its address."
    spec.components.response(_BEGUN, {"description": description, "content": content})
    for name, parameter in _PARAMETERS.items():
        spec.components.parameter(name, parameter["in"], parameter)
    references = [{"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS]
    for methods in spec.to_dict()["paths"].values():
        for method, operation in methods.items():
            if method != "parameters" and _BEGUN in str(operation["responses"].get("202")):
                parameters = operation.get("parameters", [])
                others = [parameter for parameter in parameters if parameter.get("name") != ASYNC]
                operation["parameters"] = others + references


def accepted_reply(operation_id: str) -> Response:
    """Answer 202 with the operation and its address."""
    operation = current_store().get_operation(operation_id)
    accepted = reply({"success": True, "operation": operation_json(operation)}, 202)
    accepted.headers["Location"] = f"/api/operations/{operation_id}"
    return accepted


def _parse_async() -> bool:
    value = request.args[ASYNC].lower()
    if value not in _BOOLEANS:
        raise InvalidInput(
            f"the address is not valid: {ASYNC}",
            hint="send ?async=true to be answered before the work is done, or leave it out to wait",
            fields={ASYNC: ["Not a boolean."]},
        )
    return _BOOLEANS[value]


def _prefers_async() -> bool:
    """Return whether the header has the preference of RFC 7240, among others, in upper or lower case."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)

"""Answers every error in one form; `app.error_codes` has the status of each code.

    {"success": false, "code": "backup_not_found", "error": "…", "hint": "…"}

Every error has this form: those of the core (`eventvault.errors`), of the framework, and unexpected exceptions. A
traceback never leaves the process; the log has it beside the `reference` of the answer.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from apispec import APISpec
from flask import Flask, Response, request
from flask_smorest import Api, Blueprint
from marshmallow import fields
from werkzeug.exceptions import HTTPException

from app.error_codes import ANSWERS, error_body
from app.replies import ReplySchema, reply
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import EventVaultError

log = logging.getLogger("eventvault.http")


_HTTP_CODES = {
    400: ("malformed", "check the request's syntax"),
    403: ("forbidden", ""),
    404: ("not_found", "GET /openapi.json lists all addresses, /docs/api shows them"),
    405: ("method_not_allowed", "the Allow header names the allowed methods"),
    406: ("not_acceptable", ""),
    408: ("timeout", "send the request again"),
    413: ("too_large", "send less in one request, or raise MAX_BODY_BYTES"),
    414: ("too_large", "shorten the address"),
    415: ("unsupported_media_type", "send JSON, as application/json"),
    416: ("range_not_satisfiable", "the Content-Range header gives the length of the file"),
    417: ("expectation_failed", "remove the Expect header, or send 100-continue"),
    422: ("invalid", "`fields` says what is wrong"),
    429: ("too_many_requests", "wait before the next request"),
    431: ("headers_too_large", "send fewer or shorter headers, each below 8 KiB"),
    500: ("internal_error", "the log has the details"),
    501: ("not_implemented", "send the body unencoded, with Content-Length or chunked"),
    503: ("store_unavailable", "try again in a moment"),
}
"""HTTP status of the framework's or gunicorn's error → (code, hint)."""


_CHALLENGES = {
    "token_missing": "Bearer",
    "token_wrong": 'Bearer error="invalid_token"',
    "scope_missing": 'Bearer error="insufficient_scope"',
    "session_ended": "Bearer",
    "session_key_missing": "Bearer",
}
"""Code → `WWW-Authenticate` (RFC 6750, section 3)."""


class ErrorSchema(ReplySchema):
    success = fields.Boolean(required=True, metadata={"example": False})
    code = fields.String(required=True, metadata={"example": "backup_not_found"})
    error = fields.String(required=True, metadata={"description": "What failed, on which object, and why."})
    hint = fields.String(required=True, metadata={"description": "What to do about it."})
    fields_ = fields.Dict(data_key="fields", metadata={"description": "With 422: each invalid member and why."})
    reference = fields.String(metadata={"description": "With 500: the log has the details beside this reference."})


class EdgeApi(Api):
    """flask-smorest with the error form of this service instead of its own.

    The OpenAPI document is made on the first request for it, so a worker starts sooner. complete: functions that add
    to the document after all blueprints.
    """

    ERROR_SCHEMA = ErrorSchema

    def __init__(self, app: Flask, complete: Sequence[Callable[[APISpec], None]] = ()) -> None:
        self._complete = complete
        self._undocumented: list[Blueprint] = []
        self._lock = threading.RLock()
        super().__init__(app)

    @property
    def spec(self) -> APISpec:
        with self._lock:
            waiting, self._undocumented = self._undocumented, []
            for blueprint in waiting:
                blueprint.register_views_in_doc(self, self._app, self._spec, name=blueprint.name, parameters=None)
                self._spec.tag({"name": blueprint.name, "description": blueprint.description})
            for complete in self._complete if waiting else ():
                complete(self._spec)
            return self._spec

    @spec.setter
    def spec(self, spec: APISpec) -> None:
        self._spec = spec

    def register_blueprint(self, blp: Blueprint, *, parameters: None = None, **options: Any) -> None:
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        self._app.register_blueprint(blp, **options)
        self._undocumented.append(blp)

    def handle_http_exception(self, error: HTTPException) -> Response:
        return http_exception_response(error)


def install(app: Flask) -> None:
    """Register the handlers that answer every exception of `app` in the error form."""
    app.register_error_handler(EventVaultError, core_error_response)
    app.register_error_handler(HTTPException, http_exception_response)
    for kind in SYSTEM_ERRORS:
        app.register_error_handler(kind, system_error_response)
    app.register_error_handler(Exception, unexpected_error_response)


def error_body_for_status(status: int, message: str) -> dict[str, Any]:
    """Return the body of an error that has a status but no code of its own."""
    code, hint = _HTTP_CODES.get(status, ("http_error", ""))
    return error_body(code, message, hint)


def core_error_response(error: EventVaultError) -> Response:
    answer = ANSWERS.get(error.code, ANSWERS["internal_error"])
    if answer.status is None or answer.status == 500:
        return unexpected_error_response(error)
    response = reply(error_body(error.code, error.message, error.hint, error.details), answer.status)
    retry_after = error.details.get("retryAfter", answer.retry_after)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if error.code in _CHALLENGES:
        response.headers["WWW-Authenticate"] = _CHALLENGES[error.code]
    return response


def system_error_response(error: Exception) -> Response:
    """Answer an error of the operating system in this process as the store answers its own (`as_answer`)."""
    answer = as_answer(f"{request.method} {request.path}", error)
    log.error("%s", answer)
    return core_error_response(answer)


def http_exception_response(error: HTTPException) -> Response:
    original = getattr(error, "original_exception", None)
    if original is not None:
        return unexpected_error_response(original)
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_response().headers)
    response = reply({**error_body_for_status(status, _message(error, status)), **_invalid_fields(error)}, status)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    if status == 503:
        response.headers.setdefault("Retry-After", "1")
    return response


def _message(error: HTTPException, status: int) -> str:
    match status:
        case 404:
            return f"nothing was found at {request.path}"
        case 405:
            return f"{request.method} is not allowed at {request.path}"
        case 422:
            return f"the request is not valid: {', '.join(map(str, _invalid_fields(error).get('fields', {})))}"
    return (error.description or error.name).rstrip(".")


def _invalid_fields(error: HTTPException) -> dict[str, Any]:
    """Return the members that webargs rejected, without their location (`query`, `json`)."""
    locations = (getattr(error, "data", None) or {}).get("messages", {})
    members = {name: why for location in locations.values() for name, why in location.items()}
    return {"fields": members} if locations else {}


def unexpected_error_response(error: Exception) -> Response:
    reference = secrets.token_hex(6)
    log.error("%s %s failed, reference %s", request.method, request.path, reference, exc_info=error)
    details = {"reference": reference}
    return reply(error_body("internal_error", "an internal error", f"search the log for {reference}", details), 500)

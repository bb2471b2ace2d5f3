"""The routes of `/api/session`."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint

from app.access import current_credential
from app.access.cookies import COOKIE, session_of_request
from app.access.origin import is_loopback, split_host
from app.edge import current_edge
from app.idempotency import refuse_key
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, reply, takes_no_body, validated_body
from app.session.schemas import EndedSchema, SessionSchema, SignInSchema
from eventvault.errors import SessionNotFound, TlsNeeded

blueprint = Blueprint("session", __name__, url_prefix="/api/session", description="Sessions of browsers.")
blueprint.before_request(reject_repeated_parameters)

DEED = "session"
"""The `action` of the audit; its `target` is `begin` or `end`."""

_sign_in = SignInSchema()


@blueprint.route("", methods=["POST"])
@blueprint.doc(
    summary="Sign in: exchange a token for a session",
    requestBody={"required": True, "content": {JSON: {"schema": SignInSchema}}},
)
@blueprint.response(200, SessionSchema)
@accepts_parameters(body=True)
def sign_in() -> Response:
    """Sets the cookie `__Host-ev` and answers with the key that belongs to it. An earlier session of the browser ends.

    401 for a wrong token, 429 after too many of them. 422 `tls_needed` over plain HTTP, unless the name is that of this
    machine: a browser would not keep the cookie.
    """
    host, _ = split_host(request.host)
    if request.scheme != "https" and not is_loopback(host):
        raise TlsNeeded(
            f"signing in at {host[:100]} needs TLS: a browser would send the session's cookie over TLS only",
            hint="open the page by https, or as localhost; behind a proxy: TRUSTED_PROXIES must name it, and it must "
            "send X-Forwarded-Proto",
        )
    refuse_key("each request begins a new session", "send it without the header")
    edge, token = current_edge(), validated_body(_sign_in)["token"]
    credential = edge.sign_ins.credential_of(token, request.remote_addr or "")
    with edge.deeds.doing(DEED, credential.name, "begin"):
        cookie, key = edge.sessions.begin(credential)
    response = reply({"success": True, "key": key, "name": credential.name, "scopes": sorted(credential.scopes)})
    response.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return response


@blueprint.route("", methods=["DELETE"])
@blueprint.doc(summary="Sign out: end the session")
@blueprint.response(200, EndedSchema)
@accepts_parameters()
@takes_no_body
def sign_out() -> Response:
    """Ends the session of the cookie and the key, in all workers at once, and its streams and downloads."""
    refuse_key("a session ends however often the request is sent", "send it without the header")
    if session_of_request() is None:
        raise SessionNotFound(
            "no session was ended: the request has none", hint="send the cookie and the key of a session"
        )
    with current_edge().deeds.doing(DEED, current_credential().name, "end"):
        current_edge().sessions.end()
    response = reply({"success": True})
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    return response

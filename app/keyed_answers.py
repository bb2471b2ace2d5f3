"""Claims the `Idempotency-Key` of a request: sends the first answer again, or stores the one that is sent.

`/api/events` does not need it: the event database has the answers to requests that append events.
"""

from __future__ import annotations

import logging

import msgspec
from flask import Flask, Response, request

from app.bodies import hold_body
from app.edge import current_edge
from app.idempotency import METHODS, TAKE_NO_KEY, content_of_body, is_final_status, refuse_key, request_id
from app.request_end import at_request_end
from eventvault.damage import SYSTEM_ERRORS
from eventvault.errors import NoSpace, OutcomeUnknown
from eventvault.operations.caller import using_operation_id
from eventvault.operations.keyed_answers import Claim, KeyedAnswer

log = logging.getLogger("eventvault.http")

_CLAIMED_BY_VIEW = frozenset({"events.post_events", "backup.upload_backup"})
_HEADERS = ("Content-Type", "Location", "Preference-Applied")
"""The headers of an answer that are stored and sent again."""
_KEY = "eventvault.claimed_key"


def install(app: Flask) -> None:
    """Answer repeated requests of `app` in place of its views, and store the answers to first requests."""
    app.before_request(_begin)
    app.after_request(_end)


class ClaimedKey:
    """The key of the current request. No other request uses it until this one has ended."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._begun: KeyedAnswer | None = None
        at_request_end(claim.release)

    def earlier(self) -> KeyedAnswer | None:
        """Return the note of an earlier request with this key. If both sent the same, this request repeats it."""
        return self._claim.read()

    def begin(self, content: str) -> Response | None:
        """Return the first answer; None if the request is to be carried out.

        Raises IdempotencyKeyReused, NoSpace or OSError.
        """
        try:
            answer = self._claim.begin(content)
        except (*SYSTEM_ERRORS, NoSpace) as error:
            _go_on_without(error)
            return None
        if answer.status:
            return Response(answer.body, answer.status, headers=answer.headers)
        self._begun = answer
        at_request_end(using_operation_id(answer.operation))
        return None

    def end(self, response: Response) -> None:
        """Store the answer if it is final, or forget the key if it is not; then release the key."""
        if self._begun is not None:
            self._end(self._begun, response)
        self._claim.release()

    def _end(self, begun: KeyedAnswer, response: Response) -> None:
        if response.is_streamed:
            self._claim.forget()
        elif is_final_status(response.status_code):
            headers = {name: response.headers[name] for name in _HEADERS if name in response.headers}
            body = response.get_data(as_text=True)
            self._note(msgspec.structs.replace(begun, status=response.status_code, headers=headers, body=body))
        elif OutcomeUnknown.code.encode() not in response.get_data():
            self._claim.forget()

    def _note(self, answer: KeyedAnswer) -> None:
        """Store the answer. If that fails, a repeated request is carried out under the same operation id."""
        try:
            self._claim.end(answer)
        except (*SYSTEM_ERRORS, NoSpace) as error:
            log.warning("could not record the answer to a request with an Idempotency-Key: %s", error)


def claim_key() -> ClaimedKey | None:
    """Claim the key of the current request, if it has one. Raises IdempotencyKeyInUse, NoSpace or OSError."""
    identity = request_id()
    if identity is None:
        return None
    try:
        key = ClaimedKey(current_edge().keyed_answers.claim(identity))
    except (*SYSTEM_ERRORS, NoSpace) as error:
        _go_on_without(error)
        return None
    request.environ[_KEY] = key
    return key


def _go_on_without(error: Exception) -> None:
    """Return for a DELETE, which may free the space that the note of its key needs. Otherwise raise `error`."""
    if request.method != "DELETE":
        raise error
    log.warning("could not record an Idempotency-Key: %s", error)


def _begin() -> Response | None:
    if request.method not in METHODS or request.endpoint is None or request.endpoint in _CLAIMED_BY_VIEW:
        return None
    if request.path.startswith(TAKE_NO_KEY):
        refuse_key("its answer is not kept", "send it without the header")
        return None
    key = claim_key()
    if key is None:
        return None
    return key.begin(content_of_body(hold_body()))


def _end(response: Response) -> Response:
    key: ClaimedKey | None = request.environ.get(_KEY)
    if key is not None:
        key.end(response)
    return response

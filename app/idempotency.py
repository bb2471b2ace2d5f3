"""`Idempotency-Key`: a request that is repeated with its key takes effect once and gets the first answer again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from apispec import APISpec
from flask import Response, request

from app.access import current_credential
from app.error_codes import ANSWERS
from app.errors import core_error_response
from app.replies import JSON
from eventvault.errors import EventVaultError, InvalidInput
from eventvault.keyed_request import KeyedRequest
from eventvault.operations.caller import OPEN

HEADER = "Idempotency-Key"
LONGEST_KEY = 255
METHODS = frozenset({"POST", "PUT", "DELETE"})
"""The methods of requests that take a key."""
TAKE_NO_KEY = ("/api/tokens", "/api/session")
"""Prefixes of the addresses that take no key: their answers have secrets, which are stored nowhere."""

_KEY = re.compile(r"[!-+\--~]+")
"""Printable ASCII without a comma, because a server joins two headers of the same name with a comma."""
_NOT_FINAL = (401, 429)
"""Statuses below 500 that say nothing about the request."""


def describe(spec: APISpec) -> None:
    """Add the header to each request of the OpenAPI document that takes it."""
    shape = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": rf"^{_KEY.pattern}$"}
    description = "A request that is repeated with its key takes effect once and gets the first answer, for 24 hours."
    spec.components.parameter("IdempotencyKey", "header", {
        "name": HEADER, "required": False, "description": description, "schema": shape,
    })  # fmt: skip
    for path, methods in spec.to_dict()["paths"].items():
        for method in METHODS:
            if method.lower() in methods and not path.startswith(TAKE_NO_KEY):
                parameters = methods[method.lower()].setdefault("parameters", [])
                parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})


def keyed_request(body: bytes) -> KeyedRequest | None:
    """Return the current request if it has a key. Raises InvalidInput for an invalid key."""
    identity = request_id()
    return None if identity is None else KeyedRequest(identity, content_of_body(body))


def content_of_file(name: str, size: int, sha256: bytes) -> str:
    """Return the digest of an upload's content; it does not depend on the form in which the upload is sent."""
    return _digest([name.encode(), b"%d" % size, sha256]).hexdigest()


def content_of_body(body: bytes) -> str:
    """Return the digest of a request's content: its body, media type, query, and attributes in headers."""
    return _digest([*_content_outside_body(), body]).hexdigest()


def request_id() -> bytes | None:
    """Return a digest of the current request's token, method, path and key; None without a key.

    Without tokens all clients count as one.
    """
    key = key_of_request()
    if key is None:
        return None
    name = (current_credential().token_id or OPEN, request.method, request.path.rstrip("/"), key)
    return _digest(part.encode() for part in name).digest()[:16]


def refuse_key(
    why: str = "a streamed answer cannot be given again",
    hint: str = "send it without the header; it changes nothing and can be repeated",
) -> None:
    """Raise InvalidInput if the current request has a key, as its answer is not stored."""
    if HEADER in request.headers:
        raise InvalidInput(
            f"{why}, so the request takes no {HEADER}", hint=hint, fields={HEADER: ["Not with this request."]}
        )


def key_of_request() -> str | None:
    """Return the key of the current request, None if it has none. Raises InvalidInput."""
    key: str | None = request.headers.get(HEADER)
    if key is None:
        return None
    if len(key) > LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidInput(
            f"the header {HEADER} is not valid",
            hint="send one key of its own with each new request, such as a UUID",
            fields={HEADER: [f"Must be 1 to {LONGEST_KEY} printable ASCII characters, without blanks and commas."]},
        )
    return key


def is_final(error: EventVaultError) -> bool:
    """Return whether an error is the final answer, which a repeated request gets too."""
    return is_final_status(ANSWERS[error.code].status or 500)


def is_final_status(status: int) -> bool:
    return status < 500 and status not in _NOT_FINAL


def refusal_of(error: EventVaultError) -> str:
    response = core_error_response(error)
    return f"{response.status_code} {response.get_data(as_text=True)}"


def refusal_reply(refusal: str) -> Response:
    status, _, body = refusal.partition(" ")
    return Response(body, int(status), content_type=JSON)


def _content_outside_body() -> Iterable[bytes]:
    yield (request.content_type or "").encode()
    yield request.query_string
    for name, value in sorted(request.environ.items()):
        if name.startswith("HTTP_CE_"):
            yield from (name.encode(), value.encode())


def _digest(parts: Iterable[bytes]) -> hashlib._Hash:
    """Return the SHA-256 of the parts, each of them after its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest

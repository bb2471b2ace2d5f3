"""JSON in and out: Flask's provider, replies, and request bodies of at most `MAX_BODY_BYTES`."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider
from marshmallow import INCLUDE, RAISE, Schema, ValidationError
from werkzeug.exceptions import RequestTimeout

from app.edge import current_edge
from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, TooLarge, UnsupportedMediaType

JSON = "application/json"
CHUNK = 256 * 1024


class ReplySchema(Schema):
    """The base of schemas for answers. Answers may have more members than their schema lists."""

    class Meta:
        unknown = INCLUDE


class OrjsonProvider(JSONProvider):
    """Flask's JSON by orjson. Members keep their order."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_INDENT_2 if options.get("indent") else None).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return reply(self._prepare_response_obj(args, kwargs))


def reply(payload: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(payload), status, content_type=JSON)


def read_body() -> bytes:
    """Return the request's whole body, chunked or not.

    Raises TooLarge above `MAX_BODY_BYTES`, UnsupportedMediaType if it is compressed, MalformedInput if it ends early.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(f"bodies encoded as {coding} are not supported", hint="send it without encoding")
    limit = current_edge().settings.max_body_bytes
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    while chunk := read_some():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def read_some() -> bytes:
    """Return the next part of the request's body, empty at its end.

    Raises MalformedInput if the body ends early, and RequestTimeout if it arrives too slowly.
    """
    try:
        return request.stream.read(CHUNK)
    except TimeoutError as error:
        raise RequestTimeout(str(error)) from error
    except Exception as error:  # each server has its own exceptions for this
        raise MalformedInput(f"the body ended early: {error}", hint="send the request again") from error


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", hint="send less in one request, or raise MAX_BODY_BYTES")


def validated_body(schema: Schema) -> dict[str, Any]:
    """Return the request's JSON object as loaded by `schema`. Raises InvalidInput."""
    return validated(schema, json_body())


def json_body() -> dict[str, Any]:
    """Return the request's JSON object, not validated. An empty body is an empty object."""
    return json_text.parse_object(read_body(), request.content_type)


def validated(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` as loaded by `schema`. Raises InvalidInput with the messages of each member."""
    try:
        loaded: dict[str, Any] = schema.load(body, unknown=RAISE)
    except ValidationError as error:
        fields = error.normalized_messages()  # type: ignore[no-untyped-call]
        raise InvalidInput(
            f"the body is not valid: {', '.join(map(str, fields))}", hint="`fields` says what is wrong", fields=fields
        ) from None
    return loaded

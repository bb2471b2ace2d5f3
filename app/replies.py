"""JSON in and out: the one provider for Flask, replies made of bytes, and request bodies read within their bound."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider
from marshmallow import INCLUDE, RAISE, Schema, ValidationError

from app.edge import current_edge
from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, TooLarge, UnsupportedMediaType

JSON = "application/json"
CHUNK = 256 * 1024


class ReplySchema(Schema):
    """The form of an answer; answers may carry more than their schema names."""

    class Meta:
        unknown = INCLUDE


class OrjsonProvider(JSONProvider):
    """Flask's JSON by orjson: members keep the order they were given in."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_INDENT_2 if options.get("indent") else None).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return reply(self._prepare_response_obj(args, kwargs))


def reply(payload: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(payload), status, content_type=JSON)


def read_body() -> bytes:
    """The request's whole body, at most `MAX_BODY_BYTES`, chunked ones included.

    Raises TooLarge above that, UnsupportedMediaType for a compressed one, MalformedInput for one that breaks off.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(f"a body that is {coding} encoded is not understood here", hint="send it as it is")
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
    """The next part of the request's body, empty at its end. Raises MalformedInput where it breaks off."""
    try:
        return request.stream.read(CHUNK)
    except Exception as error:  # each server has its own exceptions for a body that breaks off
        raise MalformedInput(f"the body broke off: {error}", hint="send the request again") from error


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", hint="send less in one request, or raise MAX_BODY_BYTES")


def validated_body(schema: Schema) -> dict[str, Any]:
    """The request's JSON object, valid by `schema`; an empty body is an empty object. Raises InvalidInput."""
    return validated(schema, json_body())


def json_body() -> dict[str, Any]:
    """The request's JSON object, as it is; an empty body is an empty object."""
    return json_text.parse_object(read_body(), request.content_type)


def validated(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """What `schema` makes of an object. Raises InvalidInput that says what is wrong with it."""
    try:
        loaded: dict[str, Any] = schema.load(body, unknown=RAISE)
    except ValidationError as error:
        fields = error.normalized_messages()  # type: ignore[no-untyped-call]
        raise InvalidInput(
            f"the body is not valid: {', '.join(map(str, fields))}", hint="`fields` says what is wrong", fields=fields
        ) from None
    return loaded

"""JSON in and out: Flask's provider, replies, and the JSON objects of request bodies."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider
from marshmallow import INCLUDE, RAISE, Schema, ValidationError

from app.bodies import read_body
from app.edge import current_edge
from eventvault import json_text
from eventvault.errors import InvalidInput
from eventvault.events.schema import MAX_PROBLEMS, shown_name

JSON = "application/json"


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


def validated_body(schema: Schema) -> dict[str, Any]:
    """Return the request's JSON object as loaded by `schema`. Raises InvalidInput."""
    return validated(schema, json_body())


def json_body() -> dict[str, Any]:
    """Return the request's JSON object, not validated. An empty body is an empty object."""
    body = read_body()
    with current_edge().parsing.reserved(json_text.memory_to_parse(body)):
        return json_text.parse_object(body, request.content_type)


def validated(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` as loaded by `schema`. Raises InvalidInput with the messages of each member."""
    try:
        loaded: dict[str, Any] = schema.load(body, unknown=RAISE)
    except ValidationError as error:
        fields = _first_of(error.normalized_messages())  # type: ignore[no-untyped-call]
        raise InvalidInput(
            f"the body is not valid: {', '.join(fields)}", hint="`fields` says what is wrong", fields=fields
        ) from None
    return loaded


def _first_of(messages: Any) -> Any:
    """Return the first messages about members: a client may send any number of them, with names of any length."""
    if isinstance(messages, Mapping):
        return {shown_name(str(name)): _first_of(messages[name]) for name in islice(messages, MAX_PROBLEMS)}
    if isinstance(messages, list):
        return [_first_of(message) for message in messages[:MAX_PROBLEMS]]
    return messages

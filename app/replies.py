"""JSON in and out: Flask's provider, replies, and the JSON objects of request bodies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property, wraps
from itertools import islice
from typing import Any, ParamSpec

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider
from isal import isal_zlib
from marshmallow import INCLUDE, RAISE, Schema, ValidationError

from app.bodies import read_body
from app.edge import current_edge, shared_answer
from app.shared_answers import Question
from eventvault import json_text
from eventvault.errors import InvalidInput
from eventvault.events.schema import MAX_PROBLEMS, shown_name
from eventvault.gzip_format import WBITS

Params = ParamSpec("Params")

JSON = "application/json"

COMPRESSED_ABOVE = 1024
"""Bytes of a JSON answer; a shorter one fits into a packet as it is."""
_LEVEL = 1


class ReplySchema(Schema):
    """The base of schemas for answers. Answers may have more members than their schema lists."""

    class Meta:
        unknown = INCLUDE


class RequestSchema(Schema):
    """The base of schemas for bodies. An unknown member is refused, and the OpenAPI document says so."""

    class Meta:
        unknown = RAISE


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


class Body:
    """The bytes of a JSON answer, in the codings in which it is sent. tag: identifies these bytes in an ETag."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain

    @cached_property
    def compressed(self) -> bytes:
        return _gzip(self.plain)

    @cached_property
    def tag(self) -> str:
        return hashlib.blake2b(self.plain, digest_size=16).hexdigest()


def shared_reply(
    key: Hashable, make: Callable[[], Any], *, of_events: bool = True, for_workers: bool = True
) -> Response:
    """Answer with the payload that `make` returns, made once for all who ask within half a second (`SharedAnswers`).

    for_workers: whether other workers get it too; False where there are many questions, as few answers find a slot.
    """
    encode = _encode if for_workers else _encode_nothing
    question = Question(key, lambda: Body(orjson.dumps(make())), encode, Body, of_events=of_events)
    return body_reply(shared_answer(question))


def _encode(body: Body) -> bytes:
    return body.plain


def _encode_nothing(_: Body) -> None:
    """Return None, for an answer that other workers do not get."""


def body_reply(body: Body) -> Response:
    """Answer with a body, or with 304 to a client that has these bytes."""
    is_compressed = len(body.plain) > COMPRESSED_ABOVE and takes_gzip()
    tag = f"{body.tag}-gzip" if is_compressed else body.tag  # other bytes, another tag: RFC 9110, section 8.8.3
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(body.compressed if is_compressed else body.plain, headers=headers, content_type=JSON)


def compress(response: Response) -> Response:
    """Compress a JSON answer to a GET, above COMPRESSED_ABOVE, for a client that takes gzip."""
    is_json = request.method in ("GET", "HEAD") and response.mimetype == JSON and response.is_sequence
    if not is_json or "Content-Encoding" in response.headers:
        return response
    plain = response.get_data()
    if len(plain) > COMPRESSED_ABOVE:
        response.vary.add("Accept-Encoding")
        if takes_gzip():
            response.set_data(_gzip(plain))
            response.headers["Content-Encoding"] = "gzip"
    return response


def takes_gzip() -> bool:
    return request.accept_encodings.quality("gzip") > 0


def _gzip(plain: bytes) -> bytes:
    data: bytes = isal_zlib.compress(plain, _LEVEL, wbits=WBITS)
    return data


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


def takes_no_body(view: Callable[Params, Response]) -> Callable[Params, Response]:
    """Let a view refuse members in the body: ignoring `{"dryRun": true}` would do what the client wanted to try."""

    @wraps(view)
    def checked(*args: Params.args, **kwargs: Params.kwargs) -> Response:
        members = list(islice(json_body(), MAX_PROBLEMS))
        if members:
            names = [shown_name(name) for name in members]
            raise InvalidInput(
                f"the body is not valid: {', '.join(names)}",
                hint="this address takes no body; GET /openapi.json lists the parameters of each address",
                fields={name: ["Unknown field."] for name in names},
            )
        return view(*args, **kwargs)

    return checked


def _first_of(messages: Any) -> Any:
    """Return the first messages about members: a client may send any number of them, with names of any length."""
    if isinstance(messages, Mapping):
        return {shown_name(str(name)): _first_of(messages[name]) for name in islice(messages, MAX_PROBLEMS)}
    if isinstance(messages, list):
        return [_first_of(message) for message in messages[:MAX_PROBLEMS]]
    return messages

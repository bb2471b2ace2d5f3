"""Encodes and decodes the requests and replies of `STORAGE_DIR/jobs.sock`, until a session is attached, in JSON.

The types come from the annotations of `Jobs`, and both ends accept only these types. A call has no operation id: it has
the same effect if it is sent twice, because the client gives each submitted job an id.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any

import msgspec

from eventvault.jobs.job import Job
from eventvault.jobs.port import Jobs
from eventvault.jobs.socket_connection import ATTACH, ATTACH_TYPES
from eventvault.rpc.codec import Codec
from eventvault.rpc.methods import methods_of

PROTOCOL = 1
"""The version of all requests and replies except `hello` and `end`; it must be the same at both ends."""


class DispatcherHello(msgspec.Struct, frozen=True):
    """The dispatcher's identity. service: the service start that it belongs to. idle: seconds without a step."""

    protocol: int
    version: str
    pid: int
    service: str
    idle: float


class SentView(msgspec.Struct, frozen=True):
    """A JobView as it is decoded: a missing member is None, a JSON null is a Raw. (msgspec has no optional Raw.)"""

    job: Job
    payload: msgspec.Raw = None  # type: ignore[assignment]
    result: msgspec.Raw = None  # type: ignore[assignment]


METHODS = methods_of(Jobs)
_CONNECTION: dict[str, tuple[Any, Any]] = {"hello": (tuple[()], DispatcherHello), "end": (tuple[str], bool)}
"""Every version understands these."""

_codec = Codec(
    {name: (GenericAlias(tuple, method.argument_types), method.result_type) for name, method in METHODS.items()}
    | {"job": (tuple[str], SentView)}
    | _CONNECTION
    | {ATTACH: ATTACH_TYPES},
    msgspec.json,
)
request, read_request = _codec.request, _codec.read_request
reply, reply_error, read_reply = _codec.reply, _codec.reply_error, _codec.read_reply

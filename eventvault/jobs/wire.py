"""What travels over `STORAGE_DIR/jobs.sock` until a session is attached: requests and replies in JSON.

The types come from the annotations of `Jobs`, and both ends read only what fits them. No call carries an operation id:
each of them has the same effect if it is sent twice, as the client gives each job that it submits an id.
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
"""The version of all requests and replies but `hello` and `end`; both ends must have the same one."""


class DispatcherHello(msgspec.Struct, frozen=True):
    """Who the dispatcher is. service: the service start that it belongs to. idle: seconds without a step."""

    protocol: int
    version: str
    pid: int
    service: str
    idle: float


class SentView(msgspec.Struct, frozen=True):
    """A JobView as it is read: what it has not is missing, and what is JSON null is Raw. (A Raw cannot be optional.)"""

    job: Job
    payload: msgspec.Raw = None  # type: ignore[assignment]
    result: msgspec.Raw = None  # type: ignore[assignment]


METHODS = methods_of(Jobs)
_CONNECTION: dict[str, tuple[Any, Any]] = {"hello": (tuple[()], DispatcherHello), "end": (tuple[str], bool)}
"""Every version reads these."""

_codec = Codec(
    {name: (GenericAlias(tuple, method.argument_types), method.result_type) for name, method in METHODS.items()}
    | {"job": (tuple[str], SentView)}
    | _CONNECTION
    | {ATTACH: ATTACH_TYPES},
    msgspec.json,
)
request, read_request = _codec.request, _codec.read_request
reply, reply_error, read_reply = _codec.reply, _codec.reply_error, _codec.read_reply

"""What travels over `STORAGE_DIR/store.sock`: frames of a 4-byte little-endian length and a MessagePack body.

A request is `[method, arguments]`, its reply `[true, result]` or `[false, error]`; one reply per request, in order,
on each connection. The types come from the annotations of the ports, and both ends read only what fits them. The last
argument of a method that changes something is the operation id: 8 bytes that the client makes once for each call. For
an operation or a deed, a Caller follows it; a caller that does not wait gets the reply `[null, operation id]`.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any

import msgspec

from eventvault.operations.caller import Caller
from eventvault.rpc.codec import Codec
from eventvault.rpc.methods import Method
from eventvault.store.ports import methods

PROTOCOL = 10
"""The version of all requests and replies but `hello`, `ping` and `end`; both ends must have the same one."""


class StoreHello(msgspec.Struct, frozen=True):
    """Who the store is. service: the service start that it belongs to; mode: `service`, `command`, `standalone`."""

    protocol: int
    version: str
    pid: int
    service: str
    mode: str


_CONNECTION: dict[str, tuple[Any, Any]] = {
    "hello": (tuple[()], StoreHello),
    "ping": (tuple[()], None),
    "end": (tuple[str], bool),
    "lease_generation": (tuple[str], None),
}
"""Method → the types of its arguments and of its result, for the methods that belong to a connection.

Every version reads `hello`, `ping` and `end`: a new program asks the store of an old one who it is and tells it to end,
and so does an old program after a downgrade.
"""


def _argument_types(method: Method) -> Any:
    operation_id = (bytes,) if method.marks.changes else ()
    caller = (Caller,) if method.marks.has_caller else ()
    return GenericAlias(tuple, (*method.argument_types, *operation_id, *caller))


_TYPES = {name: (_argument_types(method), method.result_type) for name, method in methods.ALL.items()} | _CONNECTION
_codec = Codec(_TYPES)
request, read_request = _codec.request, _codec.read_request
reply, reply_begun, reply_error = _codec.reply, _codec.reply_begun, _codec.reply_error
read_reply = _codec.read_reply

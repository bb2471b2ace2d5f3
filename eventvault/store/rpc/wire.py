"""What travels over `STORAGE_DIR/store.sock`: frames of a 4-byte little-endian length and a MessagePack body.

A request is `[method, arguments]`, its reply `[true, result]` or `[false, error]`; one reply per request, in order,
on each connection. The types come from the annotations of the ports, and both ends read only what fits them. The last
argument of a method that changes something is the operation id: 8 bytes that the client makes once for each call. That
of an operation or of a deed is followed by its Caller; one that does not wait gets the reply `[null, operation id]`.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec

from eventvault import errors
from eventvault.operations.caller import Caller, OperationBegun
from eventvault.store.ports import methods
from eventvault.store.ports.methods import Method

PROTOCOL = 8
"""The version of all requests and replies but `hello`, `ping` and `end`; both ends must have the same one."""

FRAME_BYTES = 2**30
_READ_BYTES = 2**14
"""How much one read asks for: most frames are smaller, and a buffer of this size costs little."""
_LENGTH = struct.Struct("<I")


EXCHANGE_SECONDS = 30.0
"""How long either end waits for bytes of a frame that has begun, or for the other end to take some."""
_TIME = struct.Struct("@ll")
"""Linux's `struct timeval`: seconds, microseconds."""


class NothingYet(TimeoutError):
    """No byte of the next frame came within the deadline; the connection is as it was."""


class Hello(msgspec.Struct, frozen=True):
    """Who the store is. service: the service start that it belongs to; mode: `service`, `command`, `standalone`."""

    protocol: int
    version: str
    pid: int
    service: str
    mode: str


_CONNECTION: dict[str, tuple[Any, Any]] = {
    "hello": (tuple[()], Hello),
    "ping": (tuple[()], None),
    "end": (tuple[str], bool),
    "lease_generation": (tuple[str], None),
}
"""Method → the types of its arguments and of its result, for the methods that belong to a connection.

Every version reads `hello`, `ping` and `end`: a new program asks the store of an old one who it is and to end, and an
old program does so after a downgrade.
"""

_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_reply = msgspec.msgpack.Decoder(tuple[bool | None, msgspec.Raw])
_error = msgspec.msgpack.Decoder(dict[str, Any])


def _argument_types(method: Method) -> Any:
    operation_id = (bytes,) if method.marks.changes else ()
    caller = (Caller,) if method.marks.has_caller else ()
    return GenericAlias(tuple, (*method.argument_types, *operation_id, *caller))


_TYPES = {name: (_argument_types(method), method.result_type) for name, method in methods.ALL.items()} | _CONNECTION
_arguments = {name: msgspec.msgpack.Decoder(types[0]) for name, types in _TYPES.items()}
_results = {name: msgspec.msgpack.Decoder(types[1]) for name, types in _TYPES.items()}


def request(method: str, *arguments: Any) -> bytes:
    return _encode((method, arguments))


def read_request(frame: bytes) -> tuple[str, tuple[Any, ...]]:
    """(method, arguments). Raises msgspec.MsgspecError or KeyError if it is no request."""
    method, arguments = _request.decode(frame)
    return method, _arguments[method].decode(arguments)


def reply(result: Any) -> bytes:
    return _encode((True, result))


def reply_begun(operation_id: str) -> bytes:
    return _encode((None, operation_id))


def reply_error(error: errors.EventVaultError) -> bytes:
    return msgspec.msgpack.encode((False, error.to_wire()), enc_hook=str)


def read_reply(method: str, frame: bytes) -> Any:
    """The result. Raises the EventVaultError that the other end raised, or OperationBegun."""
    good, body = _reply.decode(frame)
    if good is None:
        raise OperationBegun(msgspec.msgpack.decode(body, type=str))
    if not good:
        raise errors.from_wire(_error.decode(body))
    return _results[method].decode(body)


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(framed(body))


def receive(connection: socket.socket) -> bytes:
    """The body of the next frame. Raises ConnectionError at the end of the stream, and TimeoutError at its deadline.

    That is NothingYet before the first byte. Requests and replies alternate, so everything that is read belongs to this
    frame.
    """
    try:
        head = connection.recv(_READ_BYTES)
    except (BlockingIOError, TimeoutError):
        raise NothingYet("the other end sends nothing") from None
    try:
        return _rest_of(connection, head)
    except BlockingIOError:
        raise TimeoutError("the other end stopped in the middle of a frame") from None


def _rest_of(connection: socket.socket, head: bytes) -> bytes:
    while len(head) < _LENGTH.size:
        more = connection.recv(_READ_BYTES) if head else b""
        if not more:
            raise ConnectionError("the other end closed the connection")
        head += more
    (length,) = _LENGTH.unpack_from(head)
    if length > FRAME_BYTES:
        raise ConnectionError(f"a frame of {length} bytes is larger than any frame may be")
    if len(head) == _LENGTH.size + length:
        return head[_LENGTH.size :]
    return bytes(_read_rest(connection, head[_LENGTH.size :], length))


def _read_rest(connection: socket.socket, start: bytes, length: int) -> bytearray:
    body = bytearray(length)
    done = len(start)
    body[:done] = start
    with memoryview(body) as view:
        while done < length:
            count = connection.recv_into(view[done:])
            if not count:
                raise ConnectionError("the other end closed the connection")
            done += count
    return body


def set_deadline(connection: socket.socket, seconds: float) -> None:
    """Let each wait of the socket for bytes, or for room for them, end after so many seconds.

    The kernel counts them, so a call with MSG_DONTWAIT still returns at once, as it would not with `settimeout`.
    """
    connection.setblocking(True)
    time = _TIME.pack(int(seconds), round(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, time)


def short_path(folder: int, name: str) -> str:
    """The path of a socket through an open folder: at most 107 bytes are allowed, and STORAGE_DIR may be longer."""
    return f"/proc/self/fd/{folder}/{name}"


def connect(socket_path: Path, timeout: float) -> socket.socket:
    """Connect to the store. Raises OSError if nobody listens."""
    folder = os.open(socket_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(short_path(folder, socket_path.name))
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(folder)

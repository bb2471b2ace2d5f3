"""What travels over `STORAGE_DIR/store.sock`: frames of a 4-byte little-endian length and a MessagePack body.

A request is `[method, arguments]`, its reply `[true, result]` or `[false, error]`; one reply per request, in order,
on each connection. `METHODS` gives the types; both ends read only what fits them.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import msgspec

from eventvault import errors
from eventvault.backups.entry import BackupEntry, Created
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.events.event import EventDraft
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, PastView
from eventvault.restore.values import KeptEntry, Moment, Restored

PROTOCOL = 5
"""Raised with each change of what travels; both ends must have the same."""

FRAME_BYTES = 2**30
_FIRST = 2**14
"""Read at once: most frames are smaller, and the buffer that is made for it costs little."""
_LENGTH = struct.Struct("<I")


class Hello(msgspec.Struct, frozen=True):
    """What the store says of itself. service: the service start that it belongs to; mode: `service`, `command`."""

    protocol: int
    version: str
    pid: int
    service: str
    mode: str


METHODS: dict[str, tuple[Any, Any]] = {
    "hello": (tuple[()], Hello),
    "ping": (tuple[()], None),
    "end": (tuple[str], bool),
    "hold_generation": (tuple[str], None),
    "append": (tuple[list[EventDraft], bytes], AppendResult),
    "get": (tuple[str, str | None, int | None], bytes),
    "scan": (tuple[ScanQuery], Page),
    "resolve_moment": (tuple[Moment], PastView),
    "last_common": (tuple[str, str], int | None),
    "diff": (tuple[DiffQuery], DiffPage),
    "copy_events_to_present": (tuple[ScanQuery], CopyResult),
    "status": (tuple[()], dict[str, Any]),
    "create_backup": (tuple[str | None], Created),
    "list_backups": (tuple[()], list[BackupEntry]),
    "backup_manifest": (tuple[str], dict[str, Any]),
    "backup_path": (tuple[str], str),
    "adopt_upload": (tuple[str, str], BackupEntry),
    "verify_backup": (tuple[str], BackupEntry),
    "delete_backup": (tuple[str, bool], None),
    "pin_backup": (tuple[str, bool], BackupEntry),
    "restore": (tuple[str, bool, str], Restored),
    "restore_moment": (tuple[Moment, bool, str], Restored),
    "plan_restore": (tuple[Moment | str], dict[str, Any]),
    "timeline": (tuple[()], dict[str, Any]),
    "undo": (tuple[str | None, str], Restored),
    "accept_loss": (tuple[int], None),
    "list_undo": (tuple[()], list[KeptEntry]),
}
"""Method → the types of its arguments and of its result. The bytes of an append are its nonce. The last text of
restore and undo names the operation, so that a caller who asks again after a take-over is given what was done already.
"""

_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_reply = msgspec.msgpack.Decoder(tuple[bool, msgspec.Raw])
_arguments = {name: msgspec.msgpack.Decoder(types[0]) for name, types in METHODS.items()}
_results = {name: msgspec.msgpack.Decoder(types[1]) for name, types in METHODS.items()}
_error = msgspec.msgpack.Decoder(dict[str, Any])


def request(method: str, *arguments: Any) -> bytes:
    return _encode((method, arguments))


def read_request(frame: bytes) -> tuple[str, tuple[Any, ...]]:
    """(method, arguments). Raises msgspec.MsgspecError or KeyError for what is none."""
    method, arguments = _request.decode(frame)
    return method, _arguments[method].decode(arguments)


def reply(result: Any) -> bytes:
    return _encode((True, result))


def reply_error(error: errors.EventVaultError) -> bytes:
    return msgspec.msgpack.encode((False, error.to_wire()), enc_hook=str)


def read_reply(method: str, frame: bytes) -> Any:
    """The result. Raises the EventVaultError that the other end raised."""
    good, body = _reply.decode(frame)
    if not good:
        raise errors.from_wire(_error.decode(body))
    return _results[method].decode(body)


def framed(body: bytes) -> bytes:
    """A request or a reply as it travels."""
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(framed(body))


def receive(connection: socket.socket) -> bytes:
    """The next frame. Raises ConnectionError at the end of the stream, TimeoutError as the socket is set.

    Neither end sends a frame before the other one's is answered, so whatever arrives belongs to this one.
    """
    head = connection.recv(_FIRST)
    while len(head) < _LENGTH.size:
        more = connection.recv(_FIRST) if head else b""
        if not more:
            raise ConnectionError("the other end closed the connection")
        head += more
    (length,) = _LENGTH.unpack_from(head)
    if length > FRAME_BYTES:
        raise ConnectionError(f"a frame of {length} bytes is larger than any that is sent")
    if len(head) == _LENGTH.size + length:
        return head[_LENGTH.size :]
    return bytes(_whole(connection, head[_LENGTH.size :], length))


def _whole(connection: socket.socket, begun: bytes, length: int) -> bytearray:
    """A body of that length, of which `begun` is there."""
    body = bytearray(length)
    done = len(begun)
    body[:done] = begun
    with memoryview(body) as view:
        while done < length:
            count = connection.recv_into(view[done:])
            if not count:
                raise ConnectionError("the other end closed the connection")
            done += count
    return body


def short_path(folder: int, name: str) -> str:
    """The path of a socket below an open folder: at most 107 bytes fit, and STORAGE_DIR may be longer."""
    return f"/proc/self/fd/{folder}/{name}"


def connect(socket_path: Path, timeout: float) -> socket.socket:
    """A connection to the store. OSError where nobody listens."""
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

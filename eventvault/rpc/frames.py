"""Frames on a stream socket: a 4-byte little-endian length and that many bytes."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

FRAME_BYTES = 2**30
_READ_BYTES = 2**14
"""Bytes that one read asks for: most frames are smaller, and a buffer of this size costs little."""
_COPIED_BYTES = 2**18
"""A shorter body is sent together with its length, which is faster; a longer one is not copied for that."""
_LENGTH = struct.Struct("<I")


EXCHANGE_SECONDS = 30.0
"""How long either end waits for more bytes of a frame, or until the other end accepts some."""
_TIME = struct.Struct("@ll")
"""Linux's `struct timeval`: seconds, microseconds."""


class NothingYet(TimeoutError):
    """No byte of the next frame came within the deadline; the connection is as it was."""


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, body: bytes) -> None:
    if len(body) < _COPIED_BYTES:
        connection.sendall(framed(body))
    else:
        connection.sendall(_LENGTH.pack(len(body)))
        connection.sendall(body)


def receive(connection: socket.socket) -> bytes:
    """Return the body of the next frame. Raises ConnectionError at the end of the stream, and TimeoutError too late.

    Before the first byte, the TimeoutError is NothingYet. Requests and replies alternate, so everything that is read
    belongs to this frame.
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
            count = connection.recv_into(view[done:], 0, socket.MSG_WAITALL)  # else each part would wake the reader
            if not count:
                raise ConnectionError("the other end closed the connection")
            done += count
    return body


class FrameBuffer:
    """Cuts the bytes of a stream into frames; many may follow each other. most: bytes of the largest frame."""

    def __init__(self, most: int = FRAME_BYTES) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Return the bodies of the frames that are complete now. Raises ConnectionError for one that is too large."""
        self._rest += received
        bodies: list[bytes] = []
        begin = 0
        while len(self._rest) - begin >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, begin)
            if length > self._most:
                raise ConnectionError(f"a frame of {length} bytes is larger than any frame may be")
            end = begin + _LENGTH.size + length
            if len(self._rest) < end:
                break
            bodies.append(bytes(self._rest[begin + _LENGTH.size : end]))
            begin = end
        del self._rest[:begin]
        return bodies


def set_deadline(connection: socket.socket, seconds: float) -> None:
    """Limit each wait of the socket for bytes, or for room for them, to so many seconds.

    The kernel counts them, so a call with MSG_DONTWAIT still returns at once; with `settimeout` it would wait.
    """
    connection.setblocking(True)
    time = _TIME.pack(int(seconds), round(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, time)


def short_path(folder: int, name: str) -> str:
    """Return a path of a socket through an open folder: a path may have 107 bytes, and STORAGE_DIR may be longer."""
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

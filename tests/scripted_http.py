"""A server for tests of a client: what it answers to each connection is written down byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Send = Callable[[socket.socket], None]
"""Answers one request on its connection, which is closed then."""


@dataclass
class Asked:
    """A request that came. body: as far as it was read."""

    line: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class ScriptedServer:
    port: int = 0
    requests: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """length: what `Content-Length` says, where it is not the truth."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def json_answer(status: str, text: str, *headers: str) -> bytes:
    return answer(status, text.encode(), "Content-Type: application/json", *headers)


def chunked(*pieces: bytes, ends: bool = True) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunks + (b"0\r\n\r\n" if ends else b"")


@contextmanager
def scripted(*answers: bytes | Send) -> Iterator[ScriptedServer]:
    """Serve one connection after the other; those beyond the script are closed without an answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    server = ScriptedServer(listener.getsockname()[1])
    thread = threading.Thread(target=_serve, args=(listener, answers, server), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(90)


def _serve(listener: socket.socket, answers: Sequence[bytes | Send], server: ScriptedServer) -> None:
    script = iter(answers)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            connection.settimeout(30)
            asked = _read_request(connection)
            server.requests.append(asked)
            scene = next(script, b"")
            if isinstance(scene, bytes):
                connection.sendall(scene)
            else:
                scene(connection)
        except OSError:
            connection.close()
        else:
            threading.Thread(target=_end, args=(connection,), daemon=True).start()


def _end(connection: socket.socket) -> None:
    """End an answer, and read what the client may send still: else its end of the connection would be reset."""
    with connection, contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def _read_request(connection: socket.socket) -> Asked:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("no request came")
        head += piece
    text, _, body = head.partition(b"\r\n\r\n")
    line, *fields = text.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in fields)}
    while len(body) < int(headers.get("content-length", "0")):
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return Asked(line, headers, body)

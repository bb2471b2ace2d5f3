"""One connection to a service: every read and write has a deadline, however slowly the other end sends its bytes.

It uses `http.client`, which follows no redirect, asks no proxy, reads no `.netrc` and inflates no body. In a larger
client, each of these would have to be switched off.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.cli.remote.address import ServiceAddress

CONNECT_SECONDS = 10.0
PIECE = 256 * 1024

FAILURES = (OSError, http.client.HTTPException)
"""The exceptions of a connection that fails."""
_REFUSED_EARLY = (BrokenPipeError, ConnectionResetError)
"""The exceptions of sending a body after the other end has answered and reads no more."""


class Deadline:
    """Limits an exchange. quiet: how long the other end may be silent. whole: how long all may take; None: no limit."""

    def __init__(self, quiet: float, whole: float | None) -> None:
        self._quiet = quiet
        self._ends = None if whole is None else time.monotonic() + whole

    def lift(self) -> None:
        """Let the rest take as long as it takes, while the other end sends something."""
        self._ends = None

    def remaining(self) -> float:
        """Return how long the next read may take. Raises TimeoutError if there is no time left."""
        if self._ends is None:
            return self._quiet
        remaining = self._ends - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer takes too long")
        return min(remaining, self._quiet)


class HttpAnswer:
    """An answer whose body is read piece by piece. If it breaks off, reading raises one of FAILURES."""

    def __init__(self, response: http.client.HTTPResponse, deadline: Deadline) -> None:
        self.status: int = response.status
        self.deadline = deadline
        self._response = response

    def header(self, name: str) -> str:
        return self._response.headers.get(name) or ""

    @property
    def length(self) -> int | None:
        """How many bytes of the body are to come; None if the body ends with its last chunk."""
        return self._response.length

    @property
    def has_an_end(self) -> bool:
        """Return False if the body ends with the connection, so that nobody can tell whether it is whole."""
        return bool(self._response.chunked) or self._response.length is not None

    def read(self, size: int = PIECE) -> bytes:
        """Return what is there, at most `size` bytes; empty at the end of the body."""
        piece = self._response.read1(size)
        if not piece:
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
            self._response.close()  # otherwise the connection would take no further request
        return piece

    def pieces(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece


class HttpConnection:
    """One connection. was_sent: a part of the current request may have arrived. is_whole: it was sent to its end."""

    def __init__(self, address: ServiceAddress, tls: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = {"timeout": CONNECT_SECONDS}
        self._http: http.client.HTTPConnection = (
            http.client.HTTPConnection(address.host, address.port, **options)
            if tls is None
            else http.client.HTTPSConnection(address.host, address.port, context=tls, **options)
        )
        self._http.response_class = self._response  # type: ignore[assignment]
        self._deadline = Deadline(CONNECT_SECONDS, CONNECT_SECONDS)
        self.was_sent = False
        self.is_whole = False

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Callable[[], Iterator[bytes]] | None,
        deadline: Deadline,
    ) -> HttpAnswer:
        """Send a request and return its answer, which may come before the body was sent to its end."""
        self.was_sent = self.is_whole = False
        self._deadline = deadline
        if self._http.sock is None:
            self._http.connect()
        assert self._http.sock is not None, "it is connected"
        self._http.sock.settimeout(deadline.remaining())
        self.was_sent = True
        try:
            self._http.request(method, target, body=None if body is None else body(), headers=dict(headers))
            self.is_whole = True
        except _REFUSED_EARLY:
            pass  # the answer says why, if there is one
        return HttpAnswer(self._http.getresponse(), deadline)

    def close(self) -> None:
        self._http.close()

    def _response(self, connection: socket.socket, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
        return _TimedResponse(connection, self._deadline, *arguments, **named)


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, deadline: Deadline, *arguments: Any, **named: Any) -> None:
        super().__init__(connection, *arguments, **named)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), connection, deadline), PIECE)


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(self._deadline.remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()

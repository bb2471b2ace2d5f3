"""Sends requests to a service, again while it is away or busy, and reads their answers within bounds.

It may send a GET again, and any request with an `Idempotency-Key`, which takes effect once however often it arrives.
The token goes to the one address and nowhere else.
"""

from __future__ import annotations

import dataclasses
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from app.cli.remote import errors
from app.cli.remote.address import ServiceAddress
from app.cli.remote.connection import FAILURES, PIECE, Deadline, HttpAnswer, HttpConnection
from eventvault import __version__
from eventvault.errors import EventVaultError, IdempotencyKeyInUse

T = TypeVar("T")

QUIET_SECONDS = 120.0
"""How long a service may send nothing: it may have to open another moment first."""
EXCHANGE_SECONDS = 300.0
"""How long a request may take, up to the end of its answer or to the begin of one that is a stream."""
PATIENCE_SECONDS = 60.0
"""Seconds for which a request is sent again."""
_PAUSES = (0.1, 0.2, 0.5, 1.0)
MOST_BYTES = 128 * 2**20
"""Most bytes of an answer that is not a stream: a page of events has 24 MiB, and one event more."""
_MOST_ERROR_BYTES = 2**20
_MOST_IDLE = 4

JSON, NDJSON = "application/json", "application/x-ndjson"
KEY = "Idempotency-Key"


@dataclass(frozen=True)
class Request:
    """A request. path: below the address. body: begins the body again for each attempt. keyed: it is sent with a key.

    repeatable: sent twice it does no more than sent once, also without a key.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Callable[[], Iterator[bytes]] | None = None
    length: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True
    repeatable: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def changes(self) -> bool:
        return self.method != "GET" and not self.repeatable

    @property
    def may_be_repeated(self) -> bool:
        return self.keyed or not self.changes

    def with_query(self, **query: Any) -> Request:
        return dataclasses.replace(self, query={**self.query, **_named(query)})

    def with_headers(self, **headers: str) -> Request:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return dataclasses.replace(self, headers={**self.headers, **named})


def get(path: str, **query: Any) -> Request:
    """Return a GET. query: a parameter that is None is not sent. The `_` after a keyword of Python is removed."""
    return Request("GET", path, _named(query))


def _named(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in query.items()}


def post(path: str, members: Any = None, **options: Any) -> Request:
    return with_json("POST", path, members, **options)


def with_json(method: str, path: str, members: Any = None, **options: Any) -> Request:
    """Return a request with a JSON body. members: the body; None: there is none."""
    if members is None:
        return Request(method, path, **options)
    return with_bytes(Request(method, path, **options), msgspec.json.encode(members), JSON)


def with_bytes(request: Request, body: bytes, content_type: str) -> Request:
    def pieces() -> Iterator[bytes]:
        return (body[start : start + PIECE] for start in range(0, len(body), PIECE))

    with_type = request.with_headers(Content_Type=content_type)
    return dataclasses.replace(with_type, body=pieces, length=len(body))


def without_key(request: Request, *, repeatable: bool = False) -> Request:
    """Return a request whose answer the service does not keep, as it is streamed or holds a token."""
    return dataclasses.replace(request, keyed=False, repeatable=repeatable)


class _TryAgain(Exception):
    """The request may be sent again. after: seconds to wait, as the service said; None if it said nothing."""

    def __init__(self, error: EventVaultError, after: float | None = None) -> None:
        self.error = error
        self.after = after


class Transport:
    """Sends requests to one service. patience: for how many seconds a request is sent again. Safe for many threads."""

    def __init__(
        self,
        address: ServiceAddress,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.address = address
        self._token = token
        self._tls = tls
        self._patience = patience
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []
        self._was_reached = False

    def call(self, request: Request) -> bytes:
        """Return the body of the answer. Raises EventVaultError."""

        def read(answer: HttpAnswer, connection: HttpConnection) -> bytes:
            body = self._read(request, answer, MOST_BYTES)
            self._put_back(connection)
            return body

        return self._insist(request, read)

    @contextmanager
    def stream(self, request: Request, seconds: float | None = None) -> Iterator[HttpAnswer]:
        """Yield an answer whose body may be of any size, and may break off. Raises EventVaultError before it begins.

        seconds: how long all of it may take; None: as long as something comes.
        """
        answer, connection = self._insist(request, lambda answer, connection: (answer, connection), seconds)
        try:
            if not answer.has_an_end:
                raise errors.unreadable(str(request), "nothing says where it ends")
            if seconds is None:
                answer.deadline.lift()
            yield answer
        finally:
            connection.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _insist(
        self, request: Request, use: Callable[[HttpAnswer, HttpConnection], T], seconds: float | None = None
    ) -> T:
        headers = self._headers_of(request)
        ends = time.monotonic() + self._patience
        unknown: EventVaultError | None = None
        """The error if no later attempt is answered, because an earlier one may have taken effect."""
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                return self._attempt(request, headers, use, Deadline(QUIET_SECONDS, seconds or EXCHANGE_SECONDS))
            except _TryAgain as refused:
                wait = pause if refused.after is None else refused.after
                if time.monotonic() + wait > ends:
                    raise unknown or refused.error from None
                if refused.error.code == "outcome_unknown":
                    unknown = refused.error
            time.sleep(wait)
        raise AssertionError("the pauses have no end")

    def _attempt(
        self,
        request: Request,
        headers: Mapping[str, str],
        use: Callable[[HttpAnswer, HttpConnection], T],
        deadline: Deadline,
    ) -> T:
        connection = self._take() if request.may_be_repeated else HttpConnection(self.address, self._tls)
        try:
            answer = connection.exchange(request.method, self._target(request), headers, request.body, deadline)
            self._was_reached = True
            if not 200 <= answer.status < 300:
                raise self._refusal(request, answer)
            return use(answer, connection)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise errors.certificate_refused(self.address, error.verify_message) from None
        except FAILURES as error:
            connection.close()
            raise self._failure(request, connection, error) from None
        except BaseException:
            connection.close()
            raise

    def _failure(self, request: Request, connection: HttpConnection, error: Exception) -> Exception:
        why = reason_of(error)
        if not connection.was_sent:
            unreachable = errors.unreachable(self.address, why)
            return _TryAgain(unreachable) if self._was_reached else unreachable
        if not request.changes:
            return _TryAgain(errors.cut_off(self.address, str(request), why))
        unknown = errors.unknown_outcome(self.address, str(request), why)
        return _TryAgain(unknown) if request.keyed else unknown

    def _refusal(self, request: Request, answer: HttpAnswer) -> Exception:
        """Return the exception for an answer that refuses the request."""
        if 300 <= answer.status < 400:
            return errors.redirected(self.address, answer.header("Location"))
        body = self._read(request, answer, _MOST_ERROR_BYTES)
        error = self._error_of(request, answer.status, body)
        refused = request.may_be_repeated or answer.status in (429, 503)
        if (errors.may_pass(error) and refused) or isinstance(error, IdempotencyKeyInUse):
            return _TryAgain(error, _seconds(answer.header("Retry-After")))
        return error

    def _error_of(self, request: Request, status: int, body: bytes) -> EventVaultError:
        try:
            members = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return errors.error_of_another_program(self.address, str(request), status)
        return errors.error_of_answer(str(request), status, members)

    def _read(self, request: Request, answer: HttpAnswer, most: int) -> bytes:
        pieces, size = [], 0
        for piece in answer.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise errors.unreadable(str(request), f"it has more than {most} bytes")
        return b"".join(pieces)

    def _headers_of(self, request: Request) -> dict[str, str]:
        headers = {"User-Agent": f"eventvault/{__version__}", "Accept-Encoding": "identity", **request.headers}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if request.method != "GET":
            headers["Content-Length"] = str(request.length)
            if request.keyed:
                headers.setdefault(KEY, uuid.uuid4().hex)
        return headers

    def _target(self, request: Request) -> str:
        parameters = {name: _in_query(value) for name, value in request.query.items() if value is not None}
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"{self.address.prefix}{request.path}{query}"

    def _take(self) -> HttpConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return HttpConnection(self.address, self._tls)

    def _put_back(self, connection: HttpConnection) -> None:
        with self._lock:
            if connection.is_whole and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()


def _in_query(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else None


def reason_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

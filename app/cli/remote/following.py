"""Learns from the service's stream of events where a reader goes on, and that there are new events."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import msgspec

from app.cli.remote import errors
from app.cli.remote.connection import FAILURES
from app.cli.remote.lines import lines_of
from app.cli.remote.transport import Request, Transport, get, reason_of
from eventvault.database.values import Head, Resumption

_FIRST_MESSAGE_SECONDS = 30.0
_NO_STREAM_SECONDS = 1.0
"""Seconds to wait if a service has no slot for another stream."""
_MOST_FIELDS = 10
_ID = re.compile(rb"([0-9a-f]{16}):([0-9]{1,18})")


class NoLease:
    """A lease that does nothing."""

    def __enter__(self) -> NoLease:
        return self

    def renew(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Restore(msgspec.Struct, rename="camel", frozen=True):
    fork_sequence: int
    kind: str


def position_of(transport: Transport, reader: Head | None) -> Resumption:
    """Return where a reader goes on. Raises EventVaultError."""
    request = _stream(reader)
    try:
        with transport.stream(request, _FIRST_MESSAGE_SECONDS) as answer:
            for fields in _messages(lines_of(answer, request)):
                place = _ID.fullmatch(fields.get(b"id", b""))
                if place is None:
                    continue
                head = Head(place[1].decode(), int(place[2]))
                if b"event" not in fields:
                    return Resumption(head.generation, head.sequence)
                restored = msgspec.json.decode(fields[b"data"], type=_Restore)
                return Resumption(head.generation, head.sequence, restored.fork_sequence, restored.kind)
    except FAILURES as error:
        raise errors.cut_off(transport.address, str(request), reason_of(error)) from None
    except (msgspec.MsgspecError, KeyError) as error:
        raise errors.unreadable(str(request), str(error)) from None
    raise errors.unreadable(str(request), "it ends before it began")


def await_change(transport: Transport, head: Head, seconds: float) -> None:
    """Return once there may be events after `head`, and after `seconds` at the latest."""
    ends = time.monotonic() + seconds
    request = _stream(head)
    try:
        with transport.stream(request, seconds) as answer:
            for fields in _messages(lines_of(answer, request)):
                if b"event" in fields:
                    return
    except FAILURES:
        pass  # the time is over, or the service ended the stream
    except errors.RemoteError as error:
        if not errors.may_pass(error):
            raise
    time.sleep(max(0.0, min(_NO_STREAM_SECONDS, ends - time.monotonic())))


def _stream(reader: Head | None) -> Request:
    request = get("/api/events/stream")
    if reader is None:
        return request
    return request.with_headers(Last_Event_ID=f"{reader.generation}:{reader.sequence}")


def _messages(lines: Iterator[bytes]) -> Iterator[dict[bytes, bytes]]:
    """Yield the fields of each message, without comments."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        if not line:
            if fields:
                yield fields
            fields = {}
            continue
        name, _, value = line.partition(b":")
        if name and len(fields) < _MOST_FIELDS:
            fields[name] = value.removeprefix(b" ")

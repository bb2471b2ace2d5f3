"""Reads answers of any size line by line, in constant memory, and continues where a connection broke off."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.cli.remote import errors
from app.cli.remote.connection import FAILURES, HttpAnswer
from app.cli.remote.transport import Request, Transport, reason_of

LONGEST_LINE = 64 * 2**20
"""An event has at most MAX_BODY_BYTES, which is 32 MiB where nobody changed it."""


def lines_of(answer: HttpAnswer, request: Request) -> Iterator[bytes]:
    """Yield the lines of an answer without their ends, the last one once the answer has ended."""
    rest: list[bytes] = []
    size = 0
    for piece in answer.pieces():
        first, *others = piece.split(b"\n")
        rest.append(first)
        size += len(first)
        if others:
            yield b"".join(rest)
            yield from others[:-1]
            rest, size = [others[-1]], len(others[-1])
        if size > LONGEST_LINE:
            raise errors.unreadable(str(request), f"a line has more than {LONGEST_LINE} bytes")
    if size:
        yield b"".join(rest)


def read_lines(
    transport: Transport, request: Request, continue_after: Callable[[bytes], Request] | None = None
) -> Iterator[bytes]:
    """Yield the lines of the answer to a request; closing the iterator ends it early.

    continue_after: makes the request for what follows a line. With it, an answer that breaks off is continued as long
    as each connection brings a line; without it, this is an error. Raises EventVaultError.
    """
    while True:
        last = None
        try:
            with transport.stream(request) as answer:
                for line in lines_of(answer, request):
                    last = line
                    yield line
            return
        except FAILURES as error:
            if continue_after is None or last is None:
                raise errors.cut_off(transport.address, str(request), reason_of(error)) from None
            request = continue_after(last)

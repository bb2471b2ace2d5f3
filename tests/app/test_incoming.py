"""When a thread is given to a request: not before it has arrived, and whatever a client sends."""

from __future__ import annotations

import pytest

from app.incoming import COLLECTED_BYTES, MAX_HEAD_BYTES, Incoming, State

HEAD = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = {
    "no body": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no header": b"GET / HTTP/1.0\r\n\r\n",
    "a length": HEAD + b"Content-Length: 5\r\n\r\nabcde",
    "a length of zero": HEAD + b"Content-Length: 0\r\n\r\n",
    "names in any case": HEAD + b"cOnTeNt-lEnGtH:5 \r\n\r\nabcde",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n",
    "chunks with trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nChecksum: 1\r\nMore: 2\r\n\r\n",
    "chunks that look like their end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("sent", WHOLE.values(), ids=WHOLE.keys())
def test_a_request_is_ready_with_its_last_byte_and_not_before(sent: bytes) -> None:
    incoming = Incoming()
    states = [incoming.add(sent[at : at + 1]) for at in range(len(sent))]
    assert states[-1] is State.READY
    assert not {State.READY, State.LONG} & set(states[:-1])
    assert Incoming(sent).state is State.READY


@pytest.mark.parametrize("sent", WHOLE.values(), ids=WHOLE.keys())
def test_the_next_request_behind_a_request_changes_nothing(sent: bytes) -> None:
    assert Incoming(sent + b"GET /next HTTP/1.1\r\n").state is State.READY


def test_empty_lines_before_a_request_begin_none() -> None:
    incoming = Incoming(b"\r\n\r\n\r\n\r\n")
    assert incoming.state is State.EMPTY
    assert incoming.add(b"\r\nGET / HTTP/1.1\r\n") is State.HEAD
    assert incoming.add(b"\r\n") is State.READY
    assert incoming.begins_with((b"GET /",))


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_a_long_body_is_handed_over_after_its_first_part(framing: bytes) -> None:
    incoming = Incoming(HEAD + framing + b"\r\n\r\nFFFFF\r\n")
    assert incoming.state is State.BODY
    assert incoming.add(b"x" * (COLLECTED_BYTES - 10)) is State.BODY
    assert incoming.add(b"x" * 10) is State.LONG


def test_a_client_that_waits_to_be_asked_for_its_body_is_handed_over_at_once() -> None:
    assert Incoming(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n").state is State.LONG
    assert Incoming(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde").state is State.READY


def test_a_body_that_ends_early_is_handed_over() -> None:
    incoming = Incoming(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert incoming.add(b"") is State.READY


@pytest.mark.parametrize(
    "chunks", [b"ZZ\r\n", b"-5\r\n", b"\r\n", b"0x1\r\n", b"5;" + b"x" * 9100, b"9" * 40 + b"\r\n"]
)
def test_what_is_no_chunk_is_handed_over_for_the_parser_to_refuse(chunks: bytes) -> None:
    assert Incoming(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + chunks).state is State.READY


def test_lengths_that_are_no_numbers_are_handed_over() -> None:
    for length in (b"+5", b"5a", b"", b"9" * 5000, b"-1"):
        assert Incoming(HEAD + b"Content-Length: " + length + b"\r\n\r\n").state is State.READY


def test_a_head_without_an_end_is_bounded() -> None:
    incoming = Incoming(b"GET /" + b"x" * MAX_HEAD_BYTES)
    assert incoming.state is State.HEAD_TOO_LARGE

"""Lines of a text, whatever ends them, and those that are too long."""

from __future__ import annotations

import hashlib
import random
import tracemalloc

import pytest

from eventvault.imports.lines import split
from eventvault.imports.record import SHOWN_BYTES
from tests.eventvault.imports.reading import jsons, problems, records

MIXED = b'{"n":1}\n{"n":2}\r\n{"n":3}\r{"n":4}\r\n\r\n\n{"n":5}'
EVENTS = [b'{"n":%d}' % number for number in range(1, 6)]


@pytest.mark.parametrize("step", [1, 2, 3, 8, 1000])
def test_lines_end_with_any_line_end(step: int) -> None:
    pieces = [MIXED[at : at + step] for at in range(0, len(MIXED), step)]
    assert [line.text for line in split(pieces, 1000)] == MIXED.splitlines(keepends=True)
    assert [line.number for line in split(pieces, 1000)] == [1, 2, 3, 4, 5, 6, 7]


def test_blank_lines_count_and_are_no_records() -> None:
    assert jsons(MIXED) == EVENTS
    assert [record.line for record in records(MIXED)] == [1, 2, 3, 4, 7]


def test_a_byte_order_mark_within_joined_files_is_ignored() -> None:
    assert jsons(b'{"n":1}\n\xef\xbb\xbf{"n":2}\n') == EVENTS[:2]


def test_a_line_that_is_too_long_is_rejected_by_its_number_and_not_held() -> None:
    long = b'{"type":"' + b"x" * 2000 + b'"}'
    content = b'{"n":1}\n' + long + b'\r\n{"n":2}\n'
    for step in (1, 100, 5000):
        (first, second, third) = records(content, step=step)
        assert (first.json, third.json) == (EVENTS[0], EVENTS[1])
        assert (second.line, second.json, len(second.text)) == (2, b"", SHOWN_BYTES)
        assert second.problem is not None
        assert "2,013 bytes" in second.problem.message
        assert second.digest == hashlib.sha256(long + b"\r\n").hexdigest()


@pytest.mark.slow
def test_a_line_of_many_megabytes_is_read_in_bounded_memory() -> None:
    def chunks(count: int):  # type: ignore[no-untyped-def]
        yield b'{"n":1}\n'
        piece = b"x" * 2**18
        for _ in range(count):
            yield piece
        yield b'\n{"n":2}\n'

    tracemalloc.start()
    try:
        sizes = [line.size for line in split(chunks(512), 2**20)]
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert sizes == [8, 2**27 + 1, 8]


def test_a_last_line_without_an_end_is_whole_unless_the_file_breaks_off() -> None:
    assert jsons(b'{"n":1}\n{"n":2}') == EVENTS[:2]


def test_any_bytes_are_lines(rng: random.Random) -> None:
    for _ in range(300):
        content = bytes(rng.choices(b"\r\nab", k=rng.randrange(40)))
        pieces, at = [], 0
        while at < len(content):
            step = rng.randrange(1, 9)
            pieces.append(content[at : at + step])
            at += step
        assert [line.text for line in split(pieces, 1000)] == content.splitlines(keepends=True)


@pytest.fixture
def rng() -> random.Random:
    return random.Random(16)


def test_what_is_no_json_is_found_later_and_not_here() -> None:
    assert problems(b"{]\n") == {}

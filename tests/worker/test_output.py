"""Output is drained without end, and its end is what remains."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from eventvault.jobs.job import MAX_OUTPUT_OF_ATTEMPT
from worker.output import LONGEST_OUTPUT, Output


@pytest.fixture
def pipe() -> Iterator[tuple[Output, int]]:
    reading, writing = os.pipe()
    output = Output(reading)
    yield output, writing
    output.close()
    os.close(writing)


def test_a_short_text_is_taken_once(pipe: tuple[Output, int]) -> None:
    output, writing = pipe
    assert output.drain()
    assert output.take() == ""
    os.write(writing, "ä and \xff".encode("latin-1"))
    output.drain()
    assert output.take() == "\ufffd and \ufffd"
    assert output.take() == ""


def test_of_a_long_text_the_end_is_taken_and_the_rest_counted(pipe: tuple[Output, int]) -> None:
    output, writing = pipe
    for _ in range(100):
        os.write(writing, b"x" * 60_000)
        output.drain()
    os.write(writing, b"the end")
    output.drain()
    assert len(output._tail) <= LONGEST_OUTPUT
    note, _, text = output.take().partition("\n")
    assert note == f"({6_000_007 - len(text)} bytes of output came before)"
    assert text.endswith("xxthe end")
    assert len(note) + 1 + len(text) <= MAX_OUTPUT_OF_ATTEMPT


def test_the_end_of_the_writers_is_seen() -> None:
    reading, writing = os.pipe()
    output = Output(reading)
    os.write(writing, b"last")
    os.close(writing)
    assert not output.drain()
    assert output.take() == "last"
    output.close()

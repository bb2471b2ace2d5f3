"""Random changes of an archive's bytes, for tests with Hypothesis, and the assertion that an archive is refused."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from eventvault.archive import layout, reader
from eventvault.errors import ArchiveDamaged, ArchiveError
from tests.schedule import series_seed

mutations = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


places = st.integers(0, 10_000)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(0, 7)),
        st.tuples(st.just("cut"), places, st.integers(1, 600)),
        st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("repeat"), places, st.integers(1, 600)),
        st.tuples(st.just("move"), places, st.integers(1, 600)),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, change: tuple) -> bytes:
    how, place, what = change
    place %= len(content)
    head, tail = content[:place], content[place:]
    if how == "flip":
        return head + bytes([tail[0] ^ 1 << what]) + tail[1:]
    if how == "insert":
        return head + what + tail
    if how == "cut":
        return (head + tail[what:]) or b"\0"
    return head + tail[:what] * 2 + tail[what:] if how == "repeat" else tail[:what] + head + tail[what:]


SHORT_AND_LONG = [pytest.param(8, id="short"), pytest.param(1, id="long", marks=pytest.mark.soak)]
"""Lengths of runs of bytes of which one is damaged: the long form damages every byte."""


def one_of_each_run(size: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield (byte, bit): one byte of each run of so many, so that no region of a file is passed over.

    Every run has another one, and the next call other ones; a failure prints the seed.
    """
    chance = random.Random(series_seed())
    for start in range(0, size, length):
        yield start + chance.randrange(min(length, size - start)), chance.randrange(8)


def seal_of(content: bytes) -> range:
    """The bytes of an archive's seal, which its reader does not check; none in format 1."""
    end = len(content) - layout.CLOSING_SIZE - 10
    return range(end - 32, end) if layout.opening_version(content) == 2 else range(0)


def assert_refused(path: Path, target: Path, error: type[ArchiveError] = ArchiveDamaged, match: str = ".") -> None:
    with pytest.raises(error, match=match):
        reader.verify(path)
    with pytest.raises(error, match=match):
        reader.unpack(path, target)
    assert not target.exists()

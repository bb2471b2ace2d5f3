"""Histograms of a real database: equal to a plain count, at a cost that does not grow with the events."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from eventvault.database import histogram
from eventvault.database.histogram import Edge, EdgeMemory, Edges, count_by_time
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import HistogramQuery
from eventvault.events import event
from eventvault.events.event import indexed_of, recorded_of

HOUR = 3_600_000_000
BEGAN = 1_700_000_000_000_000
OLDEST, NEWEST = Edge(0, 1), Edge(2**60, 99)


class CountingRegistry(EventRegistry):
    reads = 0

    def at(self, sequence: int) -> bytes:
        self.reads += 1
        return super().at(sequence)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingRegistry]:
    """3,000 events, in bursts of different density."""
    folder = tmp_path_factory.mktemp("histogram") / "event_registry_db"
    create_database(folder)
    db = open_leveldb(folder)
    words, instant = random.Random(15), BEGAN
    filled = CountingRegistry(db, folder, now=lambda: instant)
    for number in range(300):
        instant += words.choice((0, 1, HOUR // 7, HOUR * 3))
        drafts = [
            event.draft({"type": words.choice("aab"), "id": f"{number}-{each}"}, instant)
            for each in range(words.randrange(1, 20))
        ]
        filled.append([AppendBatch(drafts, number.to_bytes(8, "big"))])
    db.compact_range()
    yield filled
    db.close()


def stored(registry: EventRegistry) -> list[bytes]:
    return [value for _, value in registry.events(0, registry.last_sequence)]


def plainly_counted(values: list[bytes], begin: int, end: int, buckets: int) -> list[int]:
    counts = [0] * buckets
    edges = [begin + (end - begin) * number // buckets for number in range(buckets)]
    for time in map(recorded_of, values):
        if begin <= time <= end:
            counts[max(number for number in range(buckets) if edges[number] <= time)] += 1
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_counts_are_those_of_a_plain_count(registry: CountingRegistry, seed: int) -> None:
    numbers, values, edges = random.Random(seed), stored(registry), Edges()
    last = recorded_of(values[-1])
    for _ in range(5):
        begin, end = sorted(numbers.randrange(BEGAN - HOUR, last + HOUR) for _ in range(2))
        upto = numbers.choice((None, numbers.randrange(len(values))))
        kind = numbers.choice((None, "a", "b", "none"))
        buckets = numbers.randrange(1, 60)
        query = HistogramQuery(buckets=buckets, recorded_from=begin, recorded_to=end, upto=upto, type=kind)

        found = count_by_time(registry, query, edges, lambda: last)

        there = values[:upto]
        wanted = [value for value in there if kind in (None, indexed_of(value).type)]
        assert found.counts == plainly_counted(wanted, begin, end, buckets)
        assert found.before == sum(recorded_of(value) < begin for value in there)
        assert found.exact


def test_an_edge_is_searched_between_its_neighbours_and_remembered(registry: CountingRegistry) -> None:
    edges, last = Edges(), registry.last_recorded
    query = HistogramQuery(buckets=200, recorded_from=BEGAN, recorded_to=last)
    registry.reads = 0
    first = count_by_time(registry, query, edges, lambda: last)
    one_by_one = 200 * registry.last_sequence.bit_length()
    assert registry.reads < one_by_one * 0.75

    registry.reads = 0
    assert count_by_time(registry, query, edges, lambda: last) == first
    assert registry.reads <= 3, "what is over is not read again"


def test_an_instant_after_the_newest_event_is_not_remembered(registry: CountingRegistry) -> None:
    edges, last = Edges(), registry.last_recorded
    query = HistogramQuery(buckets=1, recorded_from=last + 1, recorded_to=last + HOUR)
    assert count_by_time(registry, query, edges, lambda: last).counts == [0]
    assert edges.bounds(last + 1, OLDEST, NEWEST) == (OLDEST, NEWEST)


def test_counts_of_a_type_are_estimated_beyond_a_number_of_keys(
    registry: CountingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, last = stored(registry), registry.last_recorded
    query = HistogramQuery(buckets=6, recorded_from=BEGAN, recorded_to=last, type="a")
    exact = count_by_time(registry, query, Edges(), lambda: last)
    assert exact.exact

    monkeypatch.setattr(histogram, "MAX_TYPE_KEYS", sum(exact.counts) // 2)
    found = count_by_time(registry, query, Edges(), lambda: last)

    assert not found.exact
    assert found.counts[-1] == exact.counts[-1], "the newest are counted"
    everything = plainly_counted(values, BEGAN, last, 6)
    assert all(some <= total for some, total in zip(found.counts, everything, strict=True))


def test_the_memory_of_edges_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_MAX_EDGES", 10)
    edges = Edges()
    for number in range(25):
        edges.remember(Edge(number, number + 1))
    assert edges.bounds(24, OLDEST, NEWEST) == (Edge(24, 25), Edge(24, 25))
    assert edges.bounds(3, OLDEST, NEWEST) == (OLDEST, Edge(20, 21)), "earlier ones were forgotten"
    memory = EdgeMemory()
    first = memory.of("a")
    assert memory.of("a") is first
    for name in "bcde":
        memory.of(name)
    assert memory.of("a") is not first

"""The timeline for a page has at most 40 kB and round marks, whatever there is."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import orjson
import pytest

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.restore.moments.marks import MOST_BUCKETS, MOST_BYTES, MOST_GAPS, MOST_GENERATIONS, thinned

HOUR = 3600 * 1_000_000
BEGAN = clock.parse("2024-01-01T00:20:00Z")


def archive(number: int, created: int, **more: Any) -> BackupEntry:
    return BackupEntry(name=f"backup_{number:06}.tar.gz", path="", size=1, created=created, **more)


def hourly(count: int) -> list[BackupEntry]:
    return [archive(number, BEGAN + number * HOUR) for number in range(count)][::-1]


def generations(count: int) -> list[dict[str, Any]]:
    end = {"time": clock.format_microseconds(BEGAN), "sequence": 2**53}
    return [
        {
            "id": f"{number:016x}", "parent": f"{number:016x}", "forkSequence": 2**53, "forkTime": end["time"],
            "reason": "point in time", "at": end["time"], "present": number == 0, "inLineage": False,
            "lastSequence": 2**53, "lastShared": 2**53, "kept": f"previous-{number:016x}", "keptSequence": 2**53,
            "window": {"oldest": end, "newest": end},
        }
        for number in range(count)
    ]  # fmt: skip


def gaps(count: int) -> list[dict[str, Any]]:
    time = clock.format_microseconds(BEGAN)
    return [
        {"generation": "0" * 16, "first": 2**53 + number, "last": 2**53, "fromTime": time, "toTime": time}
        for number in range(count)
    ]


def thin(archives: list[BackupEntry], buckets: int = MOST_BUCKETS, lines: int = 1, holes: int = 0) -> dict[str, Any]:
    common = {"window": None, "generation": "0" * 16, "generations": generations(lines)}
    return thinned(common, gaps(holes), archives, buckets)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 399, 400, 401, 10_000])
@pytest.mark.parametrize(("lines", "holes"), [(1, 0), (3000, 1000)])
@pytest.mark.parametrize("spread", [1, HOUR // 60, HOUR, 1000 * HOUR])
def test_it_has_at_most_40_kb_whatever_there_is(count: int, lines: int, holes: int, spread: int) -> None:
    archives = [archive(number, BEGAN + number * spread) for number in range(count)]
    found = thin(archives, lines=lines, holes=holes)

    assert len(orjson.dumps({"success": True, **found})) <= MOST_BYTES
    assert sum(mark["count"] for mark in found["marks"]) == count
    assert len(found["marks"]) <= MOST_BUCKETS
    assert len(found["generations"]) <= MOST_GENERATIONS + 1
    assert [each["id"] for each in found["generations"] if each["present"]] == ["0" * 16]
    assert found["generationsOmitted"] == lines - len(found["generations"])
    assert (len(found["gaps"]), found["gapsOmitted"]) == (min(holes, MOST_GAPS), max(0, holes - MOST_GAPS))


def test_names_of_any_length_fit() -> None:
    longest = [msgspec.structs.replace(entry, name=f"{entry.created}" + "\u00e4" * 120) for entry in hourly(2000)]
    assert len(orjson.dumps(thin(longest))) <= MOST_BYTES


def test_archives_of_absurd_times_are_marks_too() -> None:
    found = thin([archive(1, 0), archive(2, clock.YEAR_10000 - 1), archive(3, -(10**12))])
    assert sum(mark["count"] for mark in found["marks"]) == 3


@pytest.mark.parametrize("buckets", [1, 2, 7, 50, 100])
def test_there_are_as_many_marks_as_were_asked_for_at_most(buckets: int) -> None:
    marks = thin(hourly(500), buckets)["marks"]
    assert len(marks) <= buckets
    assert sum(mark["count"] for mark in marks) == 500


def test_marks_are_round_side_by_side_and_in_order() -> None:
    found = thin(hourly(30), 12)

    assert found["bucketSeconds"] == 3 * 3600
    assert [mark["from"] for mark in found["marks"][:2]] == ["2024-01-01T00:00:00.000Z", "2024-01-01T03:00:00.000Z"]
    assert [mark["count"] for mark in found["marks"]] == [3] * 10
    for one, other in itertools.pairwise(found["marks"]):
        assert one["to"] == other["from"]


def test_a_past_mark_stays_as_it_is_when_archives_are_added() -> None:
    before, after = thin(hourly(30), 12)["marks"], thin(hourly(33), 12)["marks"]
    assert after[: len(before)] == before


def test_a_mark_says_which_is_the_newest_and_how_many_are_pinned_and_damaged() -> None:
    archives = [
        archive(1, BEGAN, pinned=True),
        archive(2, BEGAN + 2, problem="a bad byte"),
        archive(3, BEGAN + 1, problem="a bad byte", pinned=True),
    ]
    (mark,) = thin(archives, 1)["marks"]
    assert (mark["newest"], mark["count"], mark["pinned"], mark["damaged"]) == (archives[1].name, 3, 2, 2)

"""Which archive is newer: generations and sequences decide, not clocks."""

from __future__ import annotations

from eventvault.backups.entry import BackupEntry
from eventvault.backups.order import newest_first


def archive(
    name: str, created: int, generation: str | None, sequence: int = 0, arrived: int | None = None
) -> BackupEntry:
    arrived = created if arrived is None else arrived
    return BackupEntry(
        name=name, path=name, size=1, created=created, arrived=arrived, generation=generation, sequence=sequence
    )


def order(entries: list[BackupEntry], *generations: str) -> str:
    found = "".join(entry.name for entry in newest_first(entries, generations))
    assert found == "".join(entry.name for entry in newest_first(entries[::-1], generations))
    return found


def test_within_a_generation_the_sequence_decides() -> None:
    entries = [archive("a", 900, "g", 1), archive("b", 5, "g", 2), archive("c", 7, "g", 3)]
    assert order(entries, "g") == order(entries) == "cba"


def test_the_present_generation_is_newer_than_an_earlier_one_from_the_future() -> None:
    entries = [archive("a", 900, "old", 70), archive("b", 5, "present", 3), archive("c", 2, "older", 90)]
    assert order(entries, "older", "old", "present") == "bac"


def test_an_archive_of_another_registry_stands_by_its_arrival_whatever_its_own_time_says() -> None:
    entries = [
        archive("a", 10, "g", 1), archive("b", 20, "g", 2), archive("c", 30, "g", 3),
        archive("x", 9_999, "other", 500, arrived=25), archive("y", 1, None, arrived=26),
        archive("z", 22, None, arrived=5),
    ]  # fmt: skip
    assert order(entries, "g") == "cyxbaz"


def test_archives_of_one_other_registry_stay_in_the_order_of_their_sequences() -> None:
    entries = [
        archive("a", 10, "g", 1),
        archive("x", 3, "other", 7, arrived=12),
        archive("y", 2, "other", 8, arrived=11),
    ]
    assert order(entries, "g") == "yxa"


def test_two_archives_of_one_sequence_stand_by_their_times() -> None:
    assert order([archive("a", 10, "g", 1), archive("b", 20, "g", 1)], "g") == "ba"

"""What archives share on the disk, counted from what was cloned when they were made."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault.backups.shared_runs import GROWTH_DAYS, READ_AGAIN_AFTER, ClonedRun, DiskUse, SharedRuns
from eventvault.files import FileIdentity

DAY = 86_400_000_000
NOW = 20_000 * DAY
KIB = 1024


class Archives:
    """A folder of files that stand for archives of 100 KiB, and what is known of their blocks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.runs = SharedRuns(folder, lambda: self.now)

    def make(self, name: str, *clones: ClonedRun) -> None:
        (self.folder / name).write_bytes(bytes(100 * KIB))
        self.runs.add(name, self.present()[name], clones, self.present())

    def present(self) -> dict[str, FileIdentity]:
        files = ((path.name, FileIdentity.at(path)) for path in self.folder.iterdir())
        return {name: identity for name, identity in files if identity is not None}

    def use(self, name: str) -> DiskUse:
        self.runs.refresh(self.present())
        return self.runs.use_of(name, self.present()[name])

    def on_disk(self) -> int:
        self.runs.refresh(self.present())
        sizes = sum(identity.size for name, identity in self.present().items() if not name.startswith("."))
        return sizes - self.runs.shared_again


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return Archives(tmp_path)


def clone(source: str, *, at: int = 4096, to: int = 4096, size: int = 40 * KIB, read: int = NOW) -> ClonedRun:
    return ClonedRun(source, at, to, size, 7, read)


def test_an_archive_that_shares_nothing_is_freed_as_a_whole(archives: Archives) -> None:
    archives.make("a")
    assert archives.use("a") == DiskUse(100 * KIB, 0, 100 * KIB, None)
    assert archives.on_disk() == 100 * KIB


def test_what_two_archives_share_is_freed_by_neither_and_counted_once(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    assert archives.use("a") == DiskUse(100 * KIB, 0, 60 * KIB, NOW)
    assert archives.use("b") == DiskUse(60 * KIB, 40 * KIB, 60 * KIB, NOW)
    assert archives.on_disk() == 160 * KIB


def test_a_run_that_goes_from_archive_to_archive_is_counted_once(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a", to=8192), clone("a", at=65536, to=65536, size=20 * KIB))
    archives.make("c", clone("b", at=8192, to=12288))
    archives.make("d", clone("c", at=12288))
    assert [archives.use(name).unique // KIB for name in "abcd"] == [40, 40, 60, 60]
    assert archives.on_disk() == (400 - 3 * 40 - 20) * KIB


@pytest.mark.parametrize("by_hand", [True, False])
def test_the_last_one_that_holds_a_run_frees_it(archives: Archives, by_hand: bool) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    (archives.folder / "a").unlink()
    if not by_hand:
        archives.make("c")
    assert archives.use("b") == DiskUse(60 * KIB, 40 * KIB, 100 * KIB, NOW)
    assert archives.on_disk() == sum(1 for name in archives.present() if name in "abc") * 100 * KIB


def test_a_file_that_was_replaced_shares_nothing(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    (archives.folder / "copy").write_bytes(bytes(100 * KIB))
    (archives.folder / "copy").replace(archives.folder / "a")
    assert archives.use("a") == DiskUse(None, None, 100 * KIB, None)
    assert archives.use("b").unique == 100 * KIB
    archives.make("c", clone("a"))
    assert archives.use("a") == DiskUse(None, None, 60 * KIB, NOW)


def test_an_archive_that_is_just_being_made_is_not_forgotten(archives: Archives) -> None:
    archives.make("a")
    before = archives.present()
    archives.make("b", clone("a"))
    archives.runs.refresh(before)
    assert archives.use("b").unique == 60 * KIB


def test_the_file_brings_it_back_and_without_it_archives_count_whole(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    again = SharedRuns(archives.folder, lambda: NOW)
    assert again.use_of("b", archives.present()["b"]) == archives.use("b")
    (archives.folder / ".shared_runs.json").unlink()
    assert archives.use("b") == DiskUse(None, None, 100 * KIB, None)


def test_a_damaged_file_is_set_aside(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    path = archives.folder / ".shared_runs.json"
    path.write_bytes(path.read_bytes().replace(b'"size": 40960', b'"size": 40961'))
    assert archives.use("b") == DiskUse(None, None, 100 * KIB, None)
    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize(
    ("read", "recent"),
    [
        (NOW, NOW),
        (NOW - READ_AGAIN_AFTER, NOW - READ_AGAIN_AFTER),
        (NOW - READ_AGAIN_AFTER - 1, None),
        (NOW + 1, None),
    ],
)
def test_a_run_counts_as_read_for_thirty_days(archives: Archives, read: int, recent: int | None) -> None:
    archives.make("a")
    archives.make("b", clone("a", read=read))
    tell = archives.runs.recent_readings({"a": NOW - 5, "b": NOW - 6})
    assert tell("a", 4096) == tell("b", 4096) == recent
    assert (tell("a", 65536), tell("b", 65536)) == (NOW - 5, NOW - 6)
    assert archives.runs.recent_readings({"a": read})("a", 65536) == recent


def test_growth_is_what_was_added_less_what_was_freed_in_the_last_days(archives: Archives) -> None:
    assert archives.runs.growth_per_day() is None
    archives.make("a")
    assert archives.runs.growth_per_day() == 100 * KIB
    archives.now += DAY
    archives.make("b", clone("a"))
    assert archives.runs.growth_per_day() == 80 * KIB
    (archives.folder / "a").unlink()
    assert archives.use("b").unique == 100 * KIB
    assert archives.runs.growth_per_day() == 50 * KIB
    archives.now += GROWTH_DAYS * DAY
    assert archives.runs.growth_per_day() is None


@pytest.mark.parametrize("days", [1, 2, 400])
def test_growth_is_known_also_after_the_clock_was_set_back(archives: Archives, days: int) -> None:
    archives.make("a")
    archives.now -= days * DAY
    assert archives.runs.growth_per_day() == 100 * KIB


def test_growth_of_less_than_a_day_says_nothing_about_the_days_that_are_left(archives: Archives) -> None:
    assert not archives.runs.has_data_of_a_day(None)
    made = archives.now
    archives.make("a")
    assert not archives.runs.has_data_of_a_day(made)
    archives.now = made + DAY - 1
    assert not archives.runs.has_data_of_a_day(made)
    archives.now = made + DAY
    assert archives.runs.has_data_of_a_day(made)
    assert not archives.runs.has_data_of_a_day(None), "it may have been added a minute before midnight"
    archives.now = made + 2 * DAY
    assert archives.runs.has_data_of_a_day(None)
    assert archives.runs.has_data_of_a_day(archives.now - 5), "older archives may be gone by rotation"
    archives.now = made + (GROWTH_DAYS + 1) * DAY
    assert not archives.runs.has_data_of_a_day(made), "nothing was added lately"


def test_a_run_that_is_read_in_one_archive_is_read_for_all(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a", to=8192), clone("a", at=65536, to=65536, size=20 * KIB))
    assert archives.runs.read_since("b", NOW) == {}
    archives.runs.record_read("a", archives.present()["a"], NOW + 5, skipped=[65536])
    assert {at: run.size // KIB for at, run in archives.runs.read_since("b", NOW).items()} == {8192: 40}
    assert archives.use("b").read == NOW
    archives.runs.record_read("b", archives.present()["b"], NOW + 6, skipped=[8192])
    assert archives.use("a").read == archives.use("b").read == NOW + 5
    assert SharedRuns(archives.folder).read_since("a", NOW + 5).keys() == {65536}


def test_the_holders_of_runs_are_named_with_the_places(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a", to=8192), clone("a", at=65536, to=65536))
    archives.make("c", clone("b", at=8192, to=12288))
    first, second = archives.runs.runs_of("b").values()
    assert archives.runs.holders_of([first]) == {"a": [4096], "b": [8192], "c": [12288]}
    assert archives.runs.holders_of([second]) == {"a": [65536], "b": [65536]}
    assert archives.runs.holders_of([]) == {}
    assert archives.runs.runs_of("none") == {}


def test_what_the_disk_could_not_read_is_read_before_it_is_shared_again(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    archives.make("c")
    own = {"a": NOW, "b": NOW, "c": NOW}
    archives.runs.record_failure("a", archives.present()["a"])
    archives.runs.record_failure("c", archives.present()["c"])
    tell = SharedRuns(archives.folder, lambda: NOW).recent_readings(own)
    assert [tell("a", 4096), tell("a", 65536), tell("b", 4096), tell("c", 4096)] == [None] * 4
    assert tell("b", 65536) == NOW
    assert archives.use("b").read == NOW
    for name in "abc":
        archives.runs.record_read(name, archives.present()[name], NOW)
    tell = archives.runs.recent_readings(own)
    assert [tell("a", 4096), tell("a", 65536), tell("b", 4096), tell("c", 4096)] == [NOW] * 4


def test_damage_that_is_found_while_a_run_is_cloned_unread_is_not_forgotten(archives: Archives) -> None:
    archives.make("a")
    archives.make("b", clone("a"))
    archives.runs.record_damage([*archives.runs.runs_of("a").values()])
    archives.make("c", clone("a"))
    assert archives.runs.recent_readings({"c": NOW})("c", 4096) is None
    archives.make("d", clone("a", read=NOW + 1))
    archives.now += 1
    assert archives.runs.recent_readings({"d": NOW})("d", 4096) == NOW + 1


def test_readings_of_archives_that_share_nothing_write_nothing(archives: Archives) -> None:
    archives.make("a")
    before = archives.present()[".shared_runs.json"]
    archives.runs.record_read("a", archives.present()["a"], NOW)
    archives.runs.record_read("unknown", before, NOW)
    assert archives.present()[".shared_runs.json"] == before

"""LevelDB databases that compact early and often, for tests of the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault.database import checkpoint
from eventvault.database.checkpoint import Checkpoint
from eventvault.leveldb.manifest import read_current, read_version

SMALL = {"write_buffer_size": 65536, "max_file_size": 1 << 20}


def open_small(folder: Path) -> Any:
    return plyvel.DB(str(folder), create_if_missing=True, **SMALL)


def fill(database: Any, start: int, stop: int) -> None:
    """Puts keys in order and, in the same batch, spread keys, so that compactions have something to merge."""
    for number in range(start, stop):
        with database.write_batch(transaction=True) as batch:
            batch.put(b"e%08d" % number, b"%08d" % number * 40)
            batch.put(b"i%08d" % (number * 7919 % 1_000_003), b"%d" % number)


def numbers(folder: Path) -> list[int]:
    """Return the numbers that LevelDB reads in a copy; events and spread keys must be the same set."""
    database = plyvel.DB(str(folder), **SMALL)
    try:
        events = [int(key[1:]) for key in database.iterator(prefix=b"e", include_value=False)]
        assert sorted(int(value) for value in database.iterator(prefix=b"i", include_key=False)) == events
        return events
    finally:
        database.close()


def assert_private(copy: Checkpoint[Any]) -> None:
    """The copy shares no file that LevelDB would write to, and has no other files."""
    for path in copy.folder.iterdir():
        assert path.suffix == ".ldb" or path.name == "CURRENT" or path.suffix == ".log" or "MANIFEST-" in path.name
        if path.suffix != ".ldb":
            assert path.stat().st_nlink == 1
    assert {file.name: file.size for file in copy.files} == {
        path.name: path.stat().st_size for path in copy.folder.iterdir()
    }


def named_table(folder: Path) -> Path:
    """A table that the MANIFEST names; a database that closes may leave others."""
    with (folder / read_current(folder)).open("rb") as file:
        return folder / f"{max(read_version(file).files):06d}.ldb"


class CompactionsInBetween:
    """`times` times: add tables after the first links were made, and remove one after the MANIFEST was read."""

    def __init__(self, live: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.done = 0
        self.next = 1000
        self._live, self._folder, self._times = live, tmp_path, times
        self._open_logs, self._read_version = checkpoint._open_logs, checkpoint.read_version
        monkeypatch.setattr(checkpoint, "_open_logs", self._new_tables)
        monkeypatch.setattr(checkpoint, "read_version", self._and_gone)

    def _compact(self) -> None:
        fill(self._live, self.next, self.next + 300)
        self.next += 300
        self._live.compact_range()

    def _new_tables(self, *args: Any) -> Any:
        if self.done < self._times:
            self._compact()
        return self._open_logs(*args)

    def _and_gone(self, *args: Any, **more: Any) -> Any:
        version = self._read_version(*args, **more)
        if self.done < self._times:
            named = {f"{number:06d}.ldb" for number in version.files}
            new = {name for name in named if not (self._folder / "staging" / name).exists()}
            while all((self._folder / "db" / name).exists() for name in new):
                self._compact()
            self.done += 1
        return version

"""The full check of an archive: it finds damage that no checksum of the archive shows, and limits its speed."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.archive import reader, writer
from eventvault.database.registry import open_leveldb
from eventvault.errors import ArchiveDamaged
from eventvault.leveldb.examine import file_numbers
from eventvault.restore.check import Pace, check_archive
from eventvault.settings import Settings
from tests.restoring import drafts, flip
from tests.stores import running_service


def test_damage_that_was_archived_is_found_by_leveldbs_own_checksums(settings: Settings, tmp_path: Path) -> None:
    """Every checksum of the archive is right: the live table was damaged before."""
    with running_service(settings) as service:
        service.append([draft for n in range(3000) for draft in drafts(1, f"e{n}", data=os.urandom(200).hex())])
        made = service.create_backup().backup
    folder = tmp_path / "unpacked"
    manifest = reader.unpack(Path(made.path), folder).manifest
    database = folder / "event_registry_db"
    with closing(open_leveldb(database)) as db:
        db.compact_range()
    names = file_numbers([path.name for path in database.iterdir()], "ldb").values()
    largest = max((database / name for name in names), key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2)
    (database / "LOCK").unlink()
    for path in [*database.glob("LOG*"), database / "EVENTVAULT"]:
        path.unlink(missing_ok=True)
    writer.write_archive(tmp_path / "rotten.tar.gz", database, manifest)
    reader.verify(tmp_path / "rotten.tar.gz")

    with pytest.raises(ArchiveDamaged, match="holds a database that is damaged"):
        check_archive(archive=str(tmp_path / "rotten.tar.gz"), scratch=str(tmp_path), records=True)
    assert not list(tmp_path.glob(".restoring*"))


def test_a_rate_makes_work_wait_and_never_hurry() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100, now=lambda: now[0], sleep=sleep)
    pace.wait(50, 1000)
    now[0] += 10
    pace.wait(200, 1000)
    pace.wait(1100, 2000)

    assert slept == [0.5, 0.5]

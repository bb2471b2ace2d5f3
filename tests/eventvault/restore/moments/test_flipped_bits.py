"""One flipped bit anywhere in an archive but its seal: verify finds it, and no restore accepts it by the file alone."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import events
from eventvault.archive.manifest import Manifest
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.errors import ArchiveError
from eventvault.restore.check import check_archive
from eventvault.restore.prepare import prepare_restore
from tests import format_2
from tests.eventvault.archive_folder import manifest
from tests.mutations import seal_of
from tests.restoring import times_of
from tests.schedule import series_seed, share

FLIPS = 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive of a database with a table and a log."""
    folder = tmp_path_factory.mktemp("flips")
    database = folder / "event_registry_db"
    count = events.fill(database, 200_000)
    times = times_of(database)
    with closing(open_leveldb(database)) as db:
        identity = EventRegistry(db, database).identity
    for name in ("LOCK", "LOG", "LOG.old", "EVENTVAULT"):
        (database / name).unlink(missing_ok=True)
    about: Manifest = manifest(
        "a.tar.gz", events=count, last_sequence=count, store_id=identity.store_id, generation=identity.present,
        generations=list(identity.generations), first_time=times[0], last_time=times[1],
    )  # fmt: skip
    format_2.write_archive(folder / "a.tar.gz", database, about)
    content = (folder / "a.tar.gz").read_bytes()
    assert (
        prepare_restore(archive=str(folder / "a.tar.gz"), staging=str(folder / "s"), replaces=None)["events"] == count
    )
    return content


def flipped(whole: bytes, bit: int) -> bytes:
    content = bytearray(whole)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def assert_found(path: Path) -> None:
    with pytest.raises(ArchiveError):
        check_archive(archive=str(path), scratch=str(path.parent), depth="members")
    with pytest.raises(ArchiveError):
        prepare_restore(archive=str(path), staging=str(path.parent / "staging"), replaces=None)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def check(whole: bytes, folder: Path, count: int) -> None:
    chance = random.Random(series_seed())
    ends = [chance.randrange(8 * 100) for _ in range(count // 10)]
    bits = [
        *ends,
        *(len(whole) * 8 - 1 - bit for bit in ends),
        *(chance.randrange(len(whole) * 8) for _ in range(count)),
    ]
    path = folder / "a.tar.gz"
    for bit in bits:
        if bit // 8 in seal_of(whole):
            continue
        path.write_bytes(flipped(whole, bit))
        assert_found(path)


@pytest.mark.slow
def test_no_flipped_bit_passes(whole: bytes, tmp_path: Path) -> None:
    check(whole, tmp_path, FLIPS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_none_of_many_flipped_bits_passes(whole: bytes, tmp_path: Path) -> None:
    check(whole, tmp_path, share(50 * FLIPS))

"""The chores of a restore, in this process: what they build and refuse, and that nothing remains of a failure."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault import data_folders
from eventvault.archive import reader
from eventvault.archive.proof import Proof
from eventvault.database import keys
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.errors import ArchiveDamaged, ArchiveIncomplete
from eventvault.restore import prepare
from eventvault.restore.moments.build_chore import prepare_moment
from eventvault.restore.unpacked import ArchiveFacts
from tests.restoring import make_archive, make_database, make_foreign_archive, make_foreign_database


def prepared(path: Path, staging: Path, known: Any = None) -> dict[str, Any]:
    return prepare.prepare_restore(archive=str(path), staging=str(staging), replaces=known)


def test_a_proven_archive_becomes_a_database_in_a_new_generation(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz")
    proof = Proof(installation="elsewhere", made=frozenset({reader.verify(archive).digest or ""}))
    facts = msgspec.to_builtins(ArchiveFacts(proof=proof))

    answer = prepare.prepare_restore(
        archive=str(archive), staging=str(tmp_path / "staging"), replaces=None, facts=facts
    )

    database = tmp_path / "staging" / data_folders.DATABASE
    with closing(open_leveldb(database)) as db:
        registry = EventRegistry(db, database)
        assert registry.last_sequence == answer["events"] == 3
        assert registry.identity.generation == answer["generation"]
        assert registry.identity.present.reason == "restored"
        assert registry.identity.present.fork_sequence == 3
    assert (database / data_folders.DATABASE_MARK).exists()


def test_a_foreign_archive_becomes_a_database_of_ours(tmp_path: Path) -> None:
    answer = prepared(make_foreign_archive(tmp_path / "a.tar.gz"), tmp_path / "staging")

    assert (answer["events"], answer["notJson"]) == (3, 0)
    assert [path.name for path in (tmp_path / "staging").iterdir()] == [data_folders.DATABASE]


def test_a_file_that_grows_while_it_is_read_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(tmp_path / "a.tar.gz")
    unpack = prepare.reader.unpack

    def and_grow(path: Path, target: Path) -> Any:
        manifest = unpack(path, target)
        with path.open("ab") as file:
            file.write(b"more")
        return manifest

    monkeypatch.setattr(prepare.reader, "unpack", and_grow)
    with pytest.raises(ArchiveIncomplete, match="still being written"):
        prepared(archive, tmp_path / "staging")

    assert not (tmp_path / "staging").exists()


def test_a_private_copy_in_storage_is_imported(tmp_path: Path) -> None:
    copy = make_foreign_database(tmp_path / "copy", 4)

    answer = prepare.prepare_in_place(copy=str(copy), staging=str(tmp_path / "staging"))

    assert answer["events"] == 4
    assert (tmp_path / "staging" / data_folders.DATABASE / "CURRENT").exists()


@pytest.mark.parametrize(("sequence", "restored"), [(3, True), (4, False), (5, False)])
def test_of_what_a_moment_is_taken_from_the_records_up_to_it_are_read(
    tmp_path: Path, sequence: int, restored: bool
) -> None:
    database = tmp_path / "staging" / data_folders.DATABASE
    identity = make_database(database, events=5)
    with closing(open_leveldb(database)) as db:
        db.put(keys.event_key(4), db.get(keys.event_key(5)))
    order = {
        "staging": str(database.parent), "copied": True, "base": 5, "generation": identity.generation,
        "sequence": sequence, "store_id": identity.store_id, "reason": "point in time",
        "generations": msgspec.to_builtins(identity.generations),
    }  # fmt: skip

    if restored:
        assert prepare_moment(order=order)["events"] == sequence
    else:
        with pytest.raises(ArchiveDamaged, match="event 4 is not as it was written"):
            prepare_moment(order=order)
        assert not database.parent.exists()

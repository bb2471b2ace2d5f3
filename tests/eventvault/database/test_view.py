"""A view reads all that the database holds, changes nothing of it, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.database.registry import EventRegistry
from eventvault.database.view import DatabaseView
from eventvault.errors import DatabaseDamaged
from tests.restoring import make_database


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its log ends within a record."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    make_database(tmp_path / "event_registry_db", events=3)
    log = max((tmp_path / "event_registry_db").glob("*.log"))
    log.write_bytes(log.read_bytes() + b"\1\2\3\4\5\0\1torn")
    return tmp_path / "event_registry_db"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def views(database: Path) -> list[Path]:
    return list((database.parent / "temporary").iterdir())


def test_a_view_holds_all_events_and_changes_nothing(database: Path) -> None:
    before = contents(database)
    view = DatabaseView(database)
    for _ in range(2):
        with closing(view.open()) as db:
            assert EventRegistry(db, database).last_sequence == 3
        assert [view.folder] == views(database)
    assert contents(database) == before
    view.remove()
    assert not views(database)


def test_a_damaged_database_has_no_view(database: Path) -> None:
    (database / "CURRENT").write_text("nonsense")
    with pytest.raises(DatabaseDamaged):
        DatabaseView(database).open()
    assert not views(database)


def test_the_view_of_a_killed_process_is_removed_and_that_of_another_database_is_not(
    database: Path, tmp_path: Path
) -> None:
    DatabaseView(database).open().close()
    make_database(tmp_path / "another", events=1)
    another = DatabaseView(tmp_path / "another")
    another.open().close()
    DatabaseView(database).remove()
    assert views(database) == [another.folder]

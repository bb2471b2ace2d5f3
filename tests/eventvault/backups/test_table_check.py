"""The tables of a checkpoint are checked in a second thread, and what is wrong with one names it."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault.backups import table_check
from eventvault.backups.table_check import checking_tables
from eventvault.errors import DatabaseDamaged, EventVaultError
from tests.restoring import flip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed database with two tables, as a checkpoint's folder is."""
    path = tmp_path / "checkpoint"
    for number in range(3):
        with closing(plyvel.DB(str(path), create_if_missing=True)) as db:
            db.put(b"key-%d" % number, os.urandom(20_000))
    return path


def tables_of(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("*.ldb"))
    assert len(names) == 2
    return names


def check(folder: Path) -> None:
    with checking_tables(folder, tables_of(folder)) as wait:
        wait()


def test_whole_tables_pass(folder: Path) -> None:
    check(folder)


def test_only_the_named_tables_are_read(folder: Path) -> None:
    damaged, whole = tables_of(folder)
    flip(folder / damaged, 100)

    with checking_tables(folder, [whole]) as wait:
        wait()


def test_without_tables_not_even_the_manifest_is_read(tmp_path: Path) -> None:
    with checking_tables(tmp_path, []) as wait:
        wait()


def test_a_damaged_table_is_named(folder: Path) -> None:
    name = tables_of(folder)[1]
    flip(folder / name, 100)

    with pytest.raises(DatabaseDamaged, match=f"{name} is damaged: the checksum of the block at byte 0") as raised:
        check(folder)
    assert "POST /api/backup/restore" in raised.value.hint


@pytest.mark.parametrize("change", [-1, 1])
def test_a_table_of_another_size_than_the_manifest_has_is_damaged(change: int, folder: Path) -> None:
    name = tables_of(folder)[0]
    os.truncate(folder / name, (folder / name).stat().st_size + change)

    with pytest.raises(DatabaseDamaged, match=name):
        check(folder)


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "disk_failed"), (errno.EMFILE, "too_busy")])
def test_a_disk_that_fails_is_no_damage(number: int, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(table_check.os, "open" if number == errno.EMFILE else "pread", fail)

    with pytest.raises(EventVaultError, match=os.strerror(number)) as raised:
        check(folder)
    assert raised.value.code == code


def test_leaving_the_context_ends_the_check(folder: Path) -> None:
    for name in tables_of(folder):
        flip(folder / name, 100)
    with pytest.raises(FileExistsError), checking_tables(folder, tables_of(folder)):
        raise FileExistsError

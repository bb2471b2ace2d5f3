"""A foreign database with many values that are almost as large as any may be is imported in the memory of a child."""

from __future__ import annotations

import tarfile
from pathlib import Path

from eventvault import data_folders
from eventvault.chores import Chores
from tests.forged_leveldb import database, table, zero_value

VALUES = 6
"""LevelDB merges tables from the fifth one on."""


def test_many_large_values_are_imported_within_the_limit_of_memory(tmp_path: Path) -> None:
    folder, archive = tmp_path / "folder", tmp_path / "archive.tar.gz"
    database(folder, table(*(zero_value(b"%02d" % number, 30 * 2**20) for number in range(VALUES))))
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=data_folders.DATABASE)

    prepared = Chores().run("prepare_restore", archive=str(archive), staging=str(tmp_path / "staging"), replaces=None)

    assert (prepared["events"], prepared["notJson"]) == (VALUES, VALUES)

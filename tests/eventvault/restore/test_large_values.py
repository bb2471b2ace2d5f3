"""A foreign database with many values that are almost as large as any may be is imported in the memory of a child."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventvault import data_folders, record_size
from eventvault.chores import Chores
from tests.forged_leveldb import database, table, zero_value

pytestmark = pytest.mark.slow

VALUES = 6
"""LevelDB merges tables from the fifth one on."""


@contextmanager
def two_processors() -> Iterator[None]:
    """A child may take more memory the more processors there are."""
    present = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(present)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, present)


def test_many_large_values_are_imported_within_the_limit_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_size, "_max_body_bytes", record_size.DEFAULT_BODY_BYTES)
    folder, archive = tmp_path / "folder", tmp_path / "archive.tar.gz"
    database(folder, table(*(zero_value(b"%02d" % number, 30 * 2**20) for number in range(VALUES))))
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=data_folders.DATABASE)

    with two_processors():
        staging = str(tmp_path / "staging")
        prepared = Chores().run("prepare_restore", archive=str(archive), staging=staging, replaces=None)

    assert (prepared["events"], prepared["notJson"]) == (VALUES, VALUES)

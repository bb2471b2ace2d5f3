"""Private copies of databases."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import plyvel
import pytest

from eventvault.database.clone import copy_database


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.ENOTTY, errno.ESTALE], ids=errno.errorcode.get)
def test_a_table_that_cannot_be_linked_is_copied_whatever_the_error(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    with plyvel.DB(str(source), create_if_missing=True) as database:
        database.put(b"key", b"value")
        database.compact_range()
    assert list(source.glob("*.ldb"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    copy_database(source, tmp_path / "copy")

    with plyvel.DB(str(tmp_path / "copy")) as copy:
        assert copy.get(b"key") == b"value"
    assert all(table.stat().st_nlink == 1 for table in (tmp_path / "copy").glob("*.ldb"))

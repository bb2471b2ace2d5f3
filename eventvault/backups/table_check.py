"""Checks the tables of a checkpoint: every byte of each, and their sizes as the MANIFEST has them.

Few are checked beside the writing of their archive, which gets its name only if they are whole. The check of 1 GB takes
1.2 s of CPU time, which made a first backup 20 % slower. So many are checked after it (`late_check`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eventvault.damage import as_answer
from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import HINT, read_current, read_version
from eventvault.leveldb.table import check_table


@contextmanager
def checking_tables(folder: Path, names: Collection[str]) -> Iterator[Callable[[], None]]:
    """Check these tables of the checkpoint in `folder` in a second thread while the context is entered.

    Yields a function that waits for the outcome. It raises DatabaseDamaged that names the table, or what the
    system says of one that cannot be read (`as_answer`). Leaving the context ends the check.
    """
    ended = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="table-check") as pool:
        check = pool.submit(_check_tables, folder, names, ended.is_set)
        try:
            yield check.result
        finally:
            ended.set()


def check_tables(*, folder: str, names: list[str]) -> dict[str, Any]:
    """Check these tables at the lowest priority; a chore. Raises what the function of `checking_tables` raises."""
    os.nice(19)
    _check_tables(Path(folder), names, lambda: False)
    return {}


def check_all_tables(folder: Path) -> None:
    """Check every table that the MANIFEST in `folder` names. Raises DatabaseDamaged, OSError.

    Nobody has the database open. A file that is missing is left to its opening.
    """
    with suppress(FileNotFoundError):
        sizes = _sizes_by_manifest(folder)
        names = [file.name for file in folder.iterdir()]
        for number, name in file_numbers(names, "ldb", "sst").items():
            if number in sizes:
                _check(folder / name, sizes[number])


def _check_tables(folder: Path, names: Collection[str], ended: Callable[[], bool]) -> None:
    tables = file_numbers(names, "ldb", "sst")
    name = "the MANIFEST"
    try:
        sizes = _sizes_by_manifest(folder) if tables else {}
        for number, name in tables.items():
            if ended():
                return
            _check(folder / name, sizes[number])
    except OSError as error:
        raise as_answer(f"checking the tables of the database at {name}", error) from error


def _sizes_by_manifest(folder: Path) -> dict[int, int]:
    """Return the size of each table by its number, as the MANIFEST of the checkpoint has them."""
    manifest = folder / read_current(folder)
    with manifest.open("rb") as file:
        return {number: table.size for number, table in read_version(file, name=manifest.name).files.items()}


def _check(path: Path, size: int) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        present = os.fstat(handle).st_size
        if present != size:
            raise DatabaseDamaged(
                f"the table {path.name} is damaged: it has {present} bytes instead of {size}", hint=HINT
            )
        check_table(path.name, size, lambda offset, count: os.pread(handle, count, offset))
    finally:
        os.close(handle)

"""Checks the tables of a checkpoint: every byte of each, and their sizes as the MANIFEST has them.

A few tables are checked while their archive is written, which gets its name only if they are whole. The check of 1 GB
takes 1.2 s of CPU time, which made a first backup 20 % slower. So many tables are checked after it (`late_check`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eventvault.archive.parallel import thread_count
from eventvault.chores import Chores
from eventvault.damage import as_answer
from eventvault.errors import DatabaseDamaged
from eventvault.files import read_at
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import HINT, read_current, read_version
from eventvault.leveldb.table import check_table
from eventvault.operations.operation import current
from eventvault.progress import LONGEST_SECONDS
from eventvault.regular_files import open_file, open_handle

_SHARE_BYTES = 64 * 2**20
"""Fewer bytes of tables are not worth a process of their own."""


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
            yield lambda: check.result(LONGEST_SECONDS)
        finally:
            ended.set()


def check_tables(*, folder: str, names: list[str], niceness: int = 19) -> dict[str, Any]:
    """Check these tables, by default at the lowest priority; a chore. Raises as the function of `checking_tables`."""
    os.nice(niceness)
    _check_tables(Path(folder), names, lambda: False, current().advance)
    return {}


def check_now(folder: Path, names: Collection[str]) -> None:
    """Check these tables of the checkpoint in `folder`. Raises as the function of `checking_tables`."""
    _check_tables(folder, names, lambda: False)


def check_all_tables(folder: Path, processes: int | None = None) -> None:
    """Check every table that the MANIFEST in `folder` names. Raises DatabaseDamaged, DatabaseError.

    Nobody has the database open. A missing file is no error here: LevelDB reports it at the opening. processes: None:
    one for each core, as the check does not release the interpreter lock.
    """
    with suppress(FileNotFoundError):
        sizes = _sizes_by_manifest(folder)
        present = file_numbers([file.name for file in folder.iterdir()], "ldb", "sst")
        tables = {name: sizes[number] for number, name in present.items() if number in sizes}
        current().step("check", sum(tables.values()))
        _check_together(folder, tables, thread_count() if processes is None else processes)


def _check_together(folder: Path, tables: Mapping[str, int], processes: int) -> None:
    """Check each share of the tables in a process of its own, the first one in this one. The first error ends all."""
    count = max(1, min(processes, sum(tables.values()) // _SHARE_BYTES))
    in_turn = sorted(tables, key=lambda name: tables[name])
    first, *others = (in_turn[number::count] for number in range(count))
    chores = Chores(niceness=0)
    with ThreadPoolExecutor(count) as pool:
        checks = [
            pool.submit(chores.run, "check_tables", folder=str(folder), names=names, niceness=0) for names in others
        ]
        try:
            _check_tables(folder, first, lambda: False, current().advance)
            for check in checks:
                check.result(LONGEST_SECONDS)
        finally:
            chores.cancel()


def _check_tables(
    folder: Path,
    names: Collection[str],
    ended: Callable[[], bool],
    advance: Callable[[int], None] = lambda _size: None,
) -> None:
    tables = file_numbers(names, "ldb", "sst")
    name = "the MANIFEST"
    try:
        sizes = _sizes_by_manifest(folder) if tables else {}
        for number, name in tables.items():
            if ended():
                return
            _check(folder / name, sizes[number])
            advance(sizes[number])
    except OSError as error:
        raise as_answer(f"checking the tables of the database at {name}", error) from error


def _sizes_by_manifest(folder: Path) -> dict[int, int]:
    """Return the size of each table by its number, as the MANIFEST of the checkpoint has them."""
    manifest = folder / read_current(folder)
    with open_file(manifest) as file:
        return {number: table.size for number, table in read_version(file, name=manifest.name).files.items()}


def _check(path: Path, size: int) -> None:
    handle = open_handle(path)
    try:
        present = os.fstat(handle).st_size
        if present != size:
            raise DatabaseDamaged(
                f"the table {path.name} is damaged: it has {present} bytes instead of {size}", hint=HINT
            )
        check_table(path.name, size, lambda offset, count: read_at(handle, offset, count))
    finally:
        os.close(handle)

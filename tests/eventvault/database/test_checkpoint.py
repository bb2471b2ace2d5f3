"""Checkpoints of real LevelDB databases: under load, with compactions in between, without links, on failures."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from eventvault import files
from eventvault.database import checkpoint
from eventvault.database.checkpoint import Checkpoint, take_checkpoint
from eventvault.errors import DatabaseDamaged, DatabaseError, DiskFailed, NoSpace
from eventvault.leveldb.manifest import read_current
from tests.eventvault.small_databases import (
    CompactionsInBetween,
    assert_private,
    fill,
    named_table,
    numbers,
    open_small,
)
from tests.processes import open_beneath


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Any]:
    """An open database with 1,000 numbers."""
    database = open_small(tmp_path / "db")
    fill(database, 0, 1000)
    yield database
    database.close()


def take(tmp_path: Path, **more: Any) -> Checkpoint[None]:
    return take_checkpoint(tmp_path / "db", tmp_path / "staging", nullcontext, **more)


def test_the_writers_are_held_once_and_only_for_the_logs_and_the_manifest(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    held = False

    @contextmanager
    def hold() -> Iterator[str]:
        nonlocal held
        held = True
        yield "what was held"
        held = False

    for name in ("link_or_copy", "_open_logs", "_open_manifest", "read_version", "_link_named_tables", "_copy_bytes"):
        monkeypatch.setattr(checkpoint, name, noting(getattr(checkpoint, name), steps, lambda: held))
    copy = take_checkpoint(tmp_path / "db", tmp_path / "staging", hold)
    assert copy.context == "what was held"
    order = [step for number, step in enumerate(steps) if step not in steps[:number]]
    assert order == [
        "link_or_copy free", "_open_logs held", "_open_manifest held", "read_version free", "_link_named_tables free",
        "_copy_bytes free",
    ]  # fmt: skip


def noting(real: Callable[..., Any], steps: list[str], held: Callable[[], bool]) -> Callable[..., Any]:
    def noted(*args: Any, **more: Any) -> Any:
        steps.append(f"{real.__name__} {'held' if held() else 'free'}")
        return real(*args, **more)

    return noted


def test_it_begins_again_when_a_compaction_removed_a_table_in_between(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = CompactionsInBetween(live, tmp_path, monkeypatch, 2)
    holds: list[int] = []

    @contextmanager
    def hold() -> Iterator[int]:
        holds.append(1)
        yield len(holds)

    copy = take_checkpoint(tmp_path / "db", tmp_path / "staging", hold)
    assert between.done == 2
    assert copy.context == len(holds) == 3
    assert_private(copy)
    assert numbers(copy.folder) == list(range(between.next))


@pytest.mark.slow
def test_it_gives_up_after_a_bounded_number_of_tries_and_leaves_nothing(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = CompactionsInBetween(live, tmp_path, monkeypatch, 99)
    with pytest.raises(DatabaseError, match="compacted away in between 3 times") as caught:
        take(tmp_path, max_tries=3)
    assert type(caught.value) is DatabaseError
    assert between.done == 3
    assert not (tmp_path / "staging").exists()


def test_an_edit_that_is_being_written_to_the_manifest_is_left_out(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is noted inside the edit that turns the log into a table: the log must still be read."""
    whole = 0
    open_logs, opening = checkpoint._open_logs, checkpoint._open_manifest

    def logs_then_flush(*args: Any) -> Any:
        logs = open_logs(*args)
        live.compact_range()
        return logs

    def torn(*args: Any) -> Any:
        nonlocal whole
        manifest = opening(*args)
        whole = manifest.size
        return checkpoint._Open(manifest.name, manifest.file, whole - cut)

    monkeypatch.setattr(checkpoint, "_open_logs", logs_then_flush)
    monkeypatch.setattr(checkpoint, "_open_manifest", torn)
    for cut in (1, 10, 30):
        start = 1000 * cut
        fill(live, start, start + 5)
        copy = take_checkpoint(tmp_path / "db", tmp_path / f"staging{cut}", nullcontext)
        assert (copy.folder / read_current(copy.folder)).stat().st_size < whole - cut
        assert numbers(copy.folder)[-5:] == list(range(start, start + 5))


def test_a_manifest_with_a_torn_tail_is_copied_without_it(tmp_path: Path, live: Any) -> None:
    live.close()
    manifest = tmp_path / "db" / read_current(tmp_path / "db")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + whole[:20])
    copy = take(tmp_path)
    assert (copy.folder / manifest.name).read_bytes() == whole
    assert numbers(copy.folder) == list(range(1000))


def test_a_log_that_vanishes_while_it_is_looked_for_forgets_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("000007.log", "000008.log", "000010.log", "000012.log"):
        (tmp_path / name).write_bytes(b"")
    real = checkpoint._open

    def vanishing(path: Path, opened: Any) -> Any:
        if path.name == "000008.log":
            path.unlink()
        return real(path, opened)

    monkeypatch.setattr(checkpoint, "_open", vanishing)
    with ExitStack() as opened:
        assert list(checkpoint._open_logs(tmp_path, opened)) == [10, 12]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
def test_where_no_link_can_be_made_tables_are_copied(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    between = CompactionsInBetween(live, tmp_path, monkeypatch, 1)
    copy = take(tmp_path)
    assert between.done == 1
    assert all(path.stat().st_nlink == 1 for path in copy.folder.iterdir())
    assert numbers(copy.folder) == list(range(between.next))


def test_a_table_that_was_copied_half_written_is_copied_again(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.compact_range()
    real, halved = checkpoint.link_or_copy, []

    def half(source: Path, target: Path) -> None:
        if source.name in halved:
            real(source, target)
        else:
            halved.append(source.name)
            target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])

    monkeypatch.setattr(checkpoint, "link_or_copy", half)
    copy = take(tmp_path)
    assert halved
    assert numbers(copy.folder) == list(range(1000))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS])
def test_where_the_kernel_does_not_copy_ranges_chunks_are_copied(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*args: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr(files, "IO_BYTES", 1000)
    assert numbers(take(tmp_path).folder) == list(range(1000))


def test_tables_are_linked_and_cost_no_space_where_links_can_be_made(tmp_path: Path, live: Any) -> None:
    live.compact_range()
    copy = take(tmp_path)
    tables = list(copy.folder.glob("*.ldb"))
    assert tables
    assert all(table.samefile(tmp_path / "db" / table.name) for table in tables)


@pytest.mark.slow
def test_what_the_copy_is_used_for_never_reaches_the_original(tmp_path: Path, live: Any) -> None:
    copy = take(tmp_path)
    other = open_small(copy.folder)
    fill(other, 1000, 3000)
    other.compact_range()
    other.close()
    fill(live, 1000, 1500)
    live.close()
    assert numbers(tmp_path / "db") == list(range(1500))
    assert numbers(copy.folder) == list(range(3000))


def test_a_table_that_is_missing_for_good_is_damage(tmp_path: Path, live: Any) -> None:
    live.compact_range()
    live.close()
    table = named_table(tmp_path / "db")
    table.unlink()
    with pytest.raises(DatabaseDamaged, match=f"table {table.stem} is missing"):
        take(tmp_path)
    assert not (tmp_path / "staging").exists()


def test_a_table_of_another_size_is_damage(tmp_path: Path, live: Any) -> None:
    live.compact_range()
    live.close()
    table = named_table(tmp_path / "db")
    os.truncate(table, table.stat().st_size - 1)
    with pytest.raises(DatabaseDamaged, match=f"{table.name} is damaged: it has"):
        take(tmp_path)
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
def test_a_database_without_current_or_manifest_is_damaged(tmp_path: Path, live: Any, name: str) -> None:
    live.close()
    next((tmp_path / "db").glob(f"{name}*")).unlink()
    with pytest.raises(DatabaseDamaged, match=name):
        take(tmp_path)
    assert not (tmp_path / "staging").exists()


def test_a_failure_of_hold_reaches_the_caller_as_it_is_and_leaves_nothing(tmp_path: Path, live: Any) -> None:
    @contextmanager
    def hold() -> Iterator[None]:
        raise RuntimeError("the committer has stopped")
        yield

    with pytest.raises(RuntimeError, match="the committer has stopped"):
        take_checkpoint(tmp_path / "db", tmp_path / "staging", hold)
    assert not (tmp_path / "staging").exists()


def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("copy_file_range", "pwrite"):
        monkeypatch.setattr(os, call, full)
    with pytest.raises(NoSpace, match=r"taking a checkpoint of .* failed: No space left"):
        take(tmp_path)
    assert not (tmp_path / "staging").exists()


def test_an_unreadable_disk_is_said_so_and_leaves_nothing(
    tmp_path: Path, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for call in ("copy_file_range", "pread"):
        monkeypatch.setattr(os, call, broken)
    with pytest.raises(DiskFailed, match=r"taking a checkpoint of .* failed: .*Input/output error"):
        take(tmp_path)
    assert not (tmp_path / "staging").exists()


def test_a_staging_folder_that_is_there_already_is_never_touched(tmp_path: Path, live: Any) -> None:
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "precious").write_text("kept")
    with pytest.raises(FileExistsError):
        take(tmp_path)
    assert (tmp_path / "staging" / "precious").read_text() == "kept"


def test_no_file_stays_open(tmp_path: Path, live: Any) -> None:
    live.close()
    take(tmp_path)
    assert open_beneath(tmp_path) == []

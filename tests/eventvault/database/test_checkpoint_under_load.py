"""Many checkpoints of a real LevelDB while a thread writes to it and LevelDB compacts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from eventvault.database.checkpoint import take_checkpoint
from eventvault.leveldb.examine import examine_database
from tests.eventvault.small_databases import assert_private, fill, numbers, open_small
from tests.processes import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Any]:
    """An open database with 1,000 numbers."""
    database = open_small(tmp_path / "db")
    fill(database, 0, 1000)
    yield database
    database.close()


class Load:
    """A thread that writes the next numbers, one in each batch, as many as `give_leave` allows."""

    def __init__(self, database: Any, start: int) -> None:
        self.written = start
        self.lock = threading.Lock()
        self._database = database
        self._leave = threading.Semaphore(0)
        self._end = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end = True
        self._leave.release()
        self._thread.join()

    def give_leave(self, count: int) -> None:
        self._leave.release(count)

    def _run(self) -> None:
        while self._leave.acquire() and not self._end:
            with self.lock:
                fill(self._database, self.written, self.written + 1)
                self.written += 1

    @contextmanager
    def hold(self) -> Iterator[int]:
        with self.lock:
            yield self.written


def test_under_load_each_checkpoint_is_exactly_what_was_written_when_the_writers_were_held(
    tmp_path: Path, live: Any
) -> None:
    with Load(live, 1000) as load:
        for count in range(30):
            load.give_leave(500)
            copy = take_checkpoint(tmp_path / "db", tmp_path / f"staging{count}", load.hold)
            assert_private(copy)
            assert not examine_database(copy.folder).damaged
            assert numbers(copy.folder) == list(range(copy.context))
            wait_until(lambda count=count: load.written >= 1150 + 150 * count, "nothing is written")
    written = load.written
    assert written > 5000
    assert [int(key[1:]) for key in live.iterator(prefix=b"e", include_value=False)] == list(range(written))


def test_under_load_without_holding_each_checkpoint_is_a_prefix_with_all_that_was_written_before(
    tmp_path: Path, live: Any
) -> None:
    with Load(live, 1000) as load:
        for count in range(30):
            load.give_leave(500)
            before = load.written
            copy = take_checkpoint(tmp_path / "db", tmp_path / f"staging{count}", nullcontext)
            found = numbers(copy.folder)
            assert found == list(range(len(found)))
            assert len(found) >= before

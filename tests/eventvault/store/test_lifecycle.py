"""A start that fails is tried again, and a database that is opened again meanwhile is not taken for a closed one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.database.bus import EventBus
from eventvault.database.registry import create_database
from eventvault.errors import EventVaultError
from eventvault.progress import Turn
from eventvault.store.lifecycle import Lifecycle
from tests.processes import wait_until

pytestmark = pytest.mark.slow


class Start:
    """What a lifecycle does around the opening of a real database. prepare, opened, …: called in their turns."""

    def __init__(self, folder: Path) -> None:
        create_database(folder / "event_registry_db")
        self.bus = EventBus(folder / "event_registry_db")
        self.prepare: Callable[[], None] = lambda: None
        self.opened: Callable[[], None] = lambda: None
        self.serving: Callable[[], None] = lambda: None
        self.each_second: Callable[[], None] = lambda: None
        self.prepared = 0
        self.lifecycle = Lifecycle(
            self.bus,
            Turn("swap"),
            prepare=self._prepare,
            open_database=self._open,
            on_serving=lambda: self.serving(),
            each_second=lambda: self.each_second(),
        )

    def _prepare(self) -> None:
        self.prepared += 1
        self.prepare()

    def _open(self) -> None:
        self.bus.init([])
        self.opened()

    def seconds_pass(self, count: int = 2) -> None:
        """Wait until the lifecycle has begun its periodic work so often: what came before is done then."""
        begun = threading.Semaphore(0)
        self.each_second = begun.release
        for _ in range(count):
            assert begun.acquire(timeout=20)


def disk_failed() -> None:
    raise OSError(5, "Input/output error", "a folder")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    start = Start(tmp_path)
    yield start
    start.lifecycle.stop()
    start.bus.close()


@pytest.mark.parametrize("part", ["prepare", "opened"])
def test_a_start_that_the_disk_refuses_is_tried_again(start: Start, part: str) -> None:
    setattr(start, part, disk_failed)
    start.lifecycle.start(will_start_slowly=False)
    assert start.lifecycle.state == "failed"
    assert isinstance(start.bus.problem, EventVaultError)
    with pytest.raises(EventVaultError, match="Input/output error"):
        start.lifecycle.check()

    setattr(start, part, lambda: None)
    wait_until(lambda: start.lifecycle.state == "serving", "the start is not tried again")

    start.lifecycle.check()
    assert start.bus.problem is None


def test_what_is_open_is_not_prepared_again(start: Start) -> None:
    """A preparation replaces folders: nobody may have them open."""
    start.opened = disk_failed
    start.lifecycle.start(will_start_slowly=False)
    start.seconds_pass()
    assert (start.lifecycle.state, start.prepared) == ("failed", 1)


def test_a_database_that_a_failed_write_opens_again_is_not_taken_for_closed(start: Start) -> None:
    """Else the ticker would prepare STORAGE_DIR beneath the thread that opens the database."""
    start.lifecycle.start(will_start_slowly=False)
    closed, go_on = threading.Event(), threading.Event()

    def while_closed() -> None:
        closed.set()
        assert go_on.wait(60)

    reopening = threading.Thread(target=start.bus.reopen_after, args=(while_closed,))
    reopening.start()
    assert closed.wait(20)
    start.prepare = disk_failed
    start.seconds_pass(3)
    go_on.set()
    reopening.join(20)

    assert start.prepared == 1
    assert start.lifecycle.state == "serving"
    start.lifecycle.check()


def test_a_store_whose_work_could_not_begin_says_so_and_does_not_serve(start: Start) -> None:
    """What began before the failure cannot begin twice, and a store without a journal or a schedule is not whole."""

    def no_thread() -> None:
        raise RuntimeError("can't start new thread")

    start.serving = no_thread
    start.lifecycle.start(will_start_slowly=False)
    start.serving = lambda: None
    start.seconds_pass()
    assert start.lifecycle.state == "failed"
    assert start.bus.problem is not None

"""The watchdog names what is stuck, and ends the store if that is its committer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault import progress
from eventvault.database.commit import COMMITTER
from eventvault.store import watchdog
from eventvault.store.process import last_words
from eventvault.store.watchdog import Watchdog, stuck_problems


class Ended(Exception):
    """The process would be gone."""


@pytest.fixture
def ends() -> list[tuple[str, int]]:
    return []


def make(doublings: int, ends: list[tuple[str, int]]) -> Watchdog:
    return Watchdog(doublings, lambda reason, count: ends.append((reason, count)))


@pytest.fixture(autouse=True)
def stuck_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(progress, "STUCK_SECONDS", 10.0)
    yield
    assert progress.current() is None


@pytest.mark.parametrize(("doublings", "seconds"), [(0, 60), (1, 120), (2, 240), (6, 3840), (7, 3840)])
def test_each_store_that_ended_so_gives_the_next_one_twice_as_long(
    ends: list[tuple[str, int]], doublings: int, seconds: int
) -> None:
    dog = make(doublings, ends)
    with progress.running(COMMITTER, "writes 3 appends") as activity:
        assert activity.stepped is not None
        activity.stepped -= seconds - 5
        dog.check()
        assert ends == []
        activity.stepped -= 5
        dog.check()
    (reason, count), *_ = ends
    assert reason.startswith(f"the committer made no step for {seconds} s: it writes 3 appends")
    assert count == doublings + 1


def test_a_store_that_lived_long_begins_the_count_anew(ends: list[tuple[str, int]]) -> None:
    dog = make(4, ends)
    dog._started -= watchdog.FORGET_SECONDS
    with progress.running(COMMITTER) as activity:
        activity.stepped = 0.0
        dog.check()
    assert [count for _, count in ends] == [1]


@pytest.mark.parametrize("name", ["journal", "scheduler", "catalogue", "create_backup", "work of each second"])
def test_what_else_is_stuck_is_named_and_ends_no_store(ends: list[tuple[str, int]], name: str) -> None:
    with progress.running(name, "waits for the disk") as activity:
        activity.stepped = 0.0
        make(0, ends).check()
        (problem,) = stuck_problems()
    assert ends == []
    assert (problem.code, problem.about) == ("stuck", name)
    assert "it waits for the disk" in problem.message
    assert stuck_problems() == []


def test_many_of_a_kind_are_one_problem_with_the_longest(ends: list[tuple[str, int]]) -> None:
    release, threads = threading.Event(), []
    ready = threading.Barrier(4)

    def work(age: float) -> None:
        with progress.running("list_backups", f"has waited {age:.0f} s") as activity:
            assert activity.stepped is not None
            activity.stepped -= age
            ready.wait(60)
            release.wait(60)

    for age in (20.0, 90.0, 50.0):
        threads.append(threading.Thread(target=work, args=(age,), daemon=True))
        threads[-1].start()
    ready.wait(60)
    (problem,) = stuck_problems()
    assert "it has waited 90 s" in problem.message
    release.set()
    for thread in threads:
        thread.join(60)


@pytest.mark.parametrize("stores", [1, 2, 17])
def test_the_count_survives_the_end_of_the_store(tmp_path: Path, stores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "_open", [])
    monkeypatch.setattr(last_words.faulthandler, "enable", lambda *_, **__: None)
    last_words.prepare_last_words(tmp_path)
    last_words.write_last_words("the committer made no step for 60 s", stores)
    words = last_words.read_last_words(tmp_path)
    assert last_words.stuck_in_a_row(words) == stores
    assert b"the committer made no step" in words
    for file in last_words._open:
        file.close()


@pytest.mark.parametrize("words", [b"", b"Fatal Python error: Bus error", b"\xff\xfe", b"x 3 stores in a row"])
def test_other_words_count_no_store(words: bytes) -> None:
    assert last_words.stuck_in_a_row(words) == 0


@pytest.fixture
def idle_thread() -> Iterator[progress.Activity]:
    """A committer whose thread does nothing, so that it makes no step."""
    begun, end = list[progress.Activity](), threading.Event()
    ready = threading.Barrier(2)

    def work() -> None:
        with progress.running(COMMITTER, "writes 3 appends") as activity:
            begun.append(activity)
            ready.wait(60)
            end.wait(60)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(60)
    yield begun[0]
    end.set()
    thread.join(60)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_newest_pause", [progress._Pause()])


@pytest.mark.parametrize("seconds", [11.0, 75.0, 40_000.0])
def test_a_time_in_which_the_process_was_stopped_makes_nothing_stuck(
    ends: list[tuple[str, int]], idle_thread: progress.Activity, seconds: float
) -> None:
    dog = make(0, ends)
    dog.observe(1.0)  # from now on, what the thread uses is known
    idle_thread.stepped = time.monotonic() - seconds
    dog.observe(seconds)
    assert stuck_problems() == []
    assert ends == []
    assert progress.paused_since(time.monotonic() - 1) == seconds
    idle_thread.stepped = time.monotonic() - 60
    dog.observe(1.0)
    assert len(ends) == 1


def test_a_slow_second_is_no_pause(ends: list[tuple[str, int]], idle_thread: progress.Activity) -> None:
    dog = make(0, ends)
    dog.observe(1.0)
    idle_thread.stepped = time.monotonic() - 12
    dog.observe(3.0)
    assert [problem.about for problem in stuck_problems()] == [COMMITTER]


def test_a_log_that_nobody_reads_does_not_keep_a_stuck_store_alive(
    ends: list[tuple[str, int]], idle_thread: progress.Activity, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()
    monkeypatch.setattr(watchdog.log, "error", lambda *_: read.wait(60))
    monkeypatch.setattr(watchdog, "LOG_SECONDS", 0.01)
    idle_thread.stepped = time.monotonic() - 60
    make(0, ends).check()
    assert len(ends) == 1
    read.set()

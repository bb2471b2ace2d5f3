"""What makes no step is stuck, and nobody waits for it without end; what works, however long, is waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventvault import progress
from eventvault.errors import TooBusy
from eventvault.progress import Activity, Turn, current, result_of, running, stuck_activities, wait_for, wait_for_thread

SOON = 0.2


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SLICE_SECONDS", 0.02)


@contextmanager
def in_a_thread(work: Callable[[threading.Event], object]) -> Iterator[threading.Thread]:
    """Run `work` beside the test, until the event that it gets is set."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        ended.set()
        thread.join(60)


def names_of_stuck() -> list[str]:
    return [activity.name for activity in stuck_activities()]


def test_an_activity_without_a_step_is_stuck_until_it_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STUCK_SECONDS", 0.0)
    with running("journal", "writes"):
        assert "journal" in names_of_stuck()
        monkeypatch.setattr(progress, "STUCK_SECONDS", 60.0)
        assert "journal" not in names_of_stuck()
        progress.step("reads")
        activity = current()
        assert activity is not None
        assert activity.describe().startswith("it reads, in ")
    assert current() is None


def test_what_has_nothing_to_do_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STUCK_SECONDS", 0.0)
    with running("committer") as activity:
        activity.rest()
        assert names_of_stuck() == []
        activity.observe()
        assert names_of_stuck() == []


def test_health_says_where_a_thread_waits() -> None:
    from eventvault.files import make_folder

    entered, activities = threading.Event(), list[Activity]()

    class Slow(type(Path())):  # type: ignore[misc]
        def is_dir(self) -> bool:
            entered.set()
            ended.wait(60)
            return True

    def work() -> None:
        with running("list") as activity:
            activities.append(activity)
            make_folder(Slow("/x"))

    ended = threading.Event()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert entered.wait(60)
    assert activities[0].describe() == "it works, in eventvault.files.make_folder"
    ended.set()
    thread.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["computes", "reads files", "makes steps"])
def test_whoever_works_is_waited_for_beyond_the_deadline(work: str) -> None:
    holders = list[Activity]()

    def busy(ended: threading.Event) -> None:
        with running("worker") as activity:
            holders.append(activity)
            while not ended.is_set():
                match work:
                    case "computes":
                        sum(range(10_000))
                    case "reads files":
                        Path("/proc/self/stat").read_bytes()
                        time.sleep(0.001)
                    case "makes steps":
                        activity.step()
                        time.sleep(0.001)

    deadline = 3 * SOON  # on a busy machine it may compute for a hundredth of the time only
    started = time.monotonic()
    with in_a_thread(busy):
        wait_for(lambda seconds: time.sleep(seconds) or time.monotonic() - started > 3 * deadline, "the worker",
                 lambda: holders[0] if holders else None, deadline)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["nobody", "one that waits", "one that rests"])
def test_whoever_makes_no_step_is_waited_for_until_the_deadline(worker: str) -> None:
    holders = list[Activity]()

    def idle(ended: threading.Event) -> None:
        with running("worker") as activity:
            if worker == "one that rests":
                activity.rest()
            holders.append(activity)
            ended.wait(60)

    with in_a_thread(idle), running("caller") as caller, pytest.raises(TooBusy, match="waited for the worker"):
        wait_for(lambda seconds: bool(time.sleep(seconds)), "the worker",
                 lambda: holders[0] if holders and worker != "nobody" else None, SOON)  # fmt: skip
    assert not caller.waits


@pytest.mark.slow
def test_a_chain_of_waits_makes_steps_as_its_end_does() -> None:
    """A waits for B, which waits for C: what C does is a step of all of them."""
    turn, chain, swapped = Turn("swap"), list[Activity](), threading.Event()

    def hold(ended: threading.Event) -> None:
        with running("c") as activity, turn.held():
            chain.append(activity)
            while not (ended.is_set() or swapped.is_set()):
                activity.step()
                time.sleep(0.001)

    def wait(_: threading.Event) -> None:
        with running("b") as activity:
            chain.append(activity)
            with turn.held(SOON):
                pass

    with in_a_thread(hold):
        while not turn.holder:
            time.sleep(0.001)
        with in_a_thread(wait) as waiting:
            while len(chain) < 2:
                time.sleep(0.001)
            started = time.monotonic()
            wait_for(lambda seconds: time.sleep(seconds) or time.monotonic() - started > 3 * SOON, "b",
                     lambda: chain[1], SOON)  # fmt: skip
            assert waiting.is_alive()
            assert chain[1].doing == "waits for the swap"
            swapped.set()


def test_a_turn_is_one_at_a_time_and_is_named_while_it_is_held() -> None:
    turn = Turn("change of the catalogue")
    with turn.held():
        assert turn.holder is not None
        assert turn.holder.name == "change of the catalogue"
        with turn.held_if_free() as is_held:
            assert not is_held
        with pytest.raises(TooBusy, match="waited for the change of the catalogue"), turn.held(0.05):
            pytest.fail("held twice")
    with turn.held_if_free() as is_held:
        assert is_held
    with pytest.raises(ZeroDivisionError), turn.held():
        raise ZeroDivisionError
    with turn.held(0.0):
        pass


def test_a_result_comes_or_the_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    future: Future[int] = Future()
    monkeypatch.setattr(wait_for, "__defaults__", (lambda: None, 0.0))
    with pytest.raises(TooBusy):
        result_of(future, "it", lambda: None)
    future.set_result(7)
    assert result_of(future, "it", lambda: None) == 7
    failed: Future[int] = Future()
    failed.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        result_of(failed, "it", lambda: None)


@pytest.mark.slow
def test_the_end_of_a_thread_is_waited_for_until_the_deadline() -> None:
    with in_a_thread(lambda ended: ended.wait(60)) as thread, pytest.raises(TooBusy, match="the thread"):
        wait_for_thread(thread, "the thread", lambda: None, SOON)
    wait_for_thread(thread, "the thread", lambda: None, SOON)


def test_the_work_of_a_thread_is_observed_without_its_help() -> None:
    with running("worker") as activity:
        activity.observe()
        activity.stepped = 0.0
        for _ in range(3):
            Path(f"/proc/{os.getpid()}/stat").read_bytes()
        progress.observe()
        assert activity.seconds_without_step() < 60
        activity.waits = True
        activity.stepped = 0.0
        for _ in range(3):
            Path(f"/proc/{os.getpid()}/stat").read_bytes()
        progress.observe()
        assert activity.stepped == 0.0


@pytest.mark.parametrize(("share", "works"), [(0.2, True), (0.001, False)])
def test_a_thread_that_computes_makes_steps_however_many_observe_it(
    monkeypatch: pytest.MonkeyPatch, share: float, works: bool
) -> None:
    """A hundred observations a second; the thread has that share of the processor."""
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(progress, "_used_by", lambda _: (int(share * now[0] * 1e9), 0))
    with running("worker") as activity:
        activity.observe()
        activity.stepped = began = now[0]
        for _ in range(3000):
            now[0] += 0.01
            activity.observe()
    assert (activity.stepped > began) == works


@pytest.mark.parametrize("pause", [61.0, 3600.0])
def test_a_time_in_which_the_process_was_stopped_ends_no_wait(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    now, looks = [1000.0], iter([0.5, pause, 0.5, 0.5])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def is_over(seconds: float) -> bool:
        now[0] += next(looks) if seconds else 0.0
        return now[0] > 1000 + pause + 1.2

    wait_for(is_over, "the worker")
    assert next(looks, None) is None

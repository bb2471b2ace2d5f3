"""Liveness by progress: what each thread works on, when it made its newest step, and waits that end without one.

Work with a name is an activity. It makes a step when its code calls `step`, when its thread uses the processor or reads
and writes files, and while what it waits for makes steps. Health names the activities that made none for STUCK_SECONDS.
A wait has no fixed end, because a backup may take an hour; it ends once the awaited work makes no further step.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from eventvault.errors import TooBusy

STUCK_SECONDS = 10.0
"""Health names an activity that made no step for this long."""
WAIT_SECONDS = 60.0
"""How long a wait lasts while what is waited for makes no step."""
JOB_SECONDS = 600.0
"""How long the result of one job of a thread pool is awaited: it reads or compresses a few MiB."""
LONGEST_SECONDS = 24 * 3600.0
"""How long the result of a chore, or of any call of the store, is awaited; without progress both end much earlier."""
PAUSE_SECONDS = 5.0
"""If a sleep of one second takes longer than this, the process or the whole machine was paused."""
_SLICE_SECONDS = 0.5
_BUSY_NANOSECONDS = 5_000_000
"""A thread that used less CPU time within _OBSERVED_SECONDS only checked whether its wait is over."""
_OBSERVED_SECONDS = 0.5
"""Observations add up for this long, because many threads that wait for one thread observe it many times a second."""
_PROJECT = str(Path(__file__).resolve().parent)

T = TypeVar("T")


class Activity:
    """The work of one thread. name: as health shows it. doing: what it does or waits for, after "it".

    stepped: when it made its newest step, in monotonic seconds; None while it rests, because it has nothing to do.
    """

    def __init__(self, name: str, doing: str) -> None:
        self.name = name
        self.doing = doing
        self.stepped: float | None = time.monotonic()
        self.waits = False
        """While it waits for another activity, the work of its thread does not count as a step."""
        self._thread = threading.get_ident()
        self._task = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._used = (0, 0)
        self._used_at = -math.inf

    def step(self, doing: str | None = None) -> None:
        self.stepped = time.monotonic()
        if doing is not None:
            self.doing = doing

    def rest(self) -> None:
        """Note that there is nothing to do until the next step."""
        self.stepped = None

    def observe(self) -> None:
        """Count as a step that the thread used the processor or files since an earlier observation."""
        before, used, now = self._used, _used_by(self._task), time.monotonic()
        worked = used[0] - before[0] >= _BUSY_NANOSECONDS or used[1] != before[1]
        if worked or now - self._used_at >= _OBSERVED_SECONDS:
            self._used, self._used_at = used, now
        if worked and not self.waits and self.stepped is not None:
            self.step()

    def seconds_without_step(self) -> float:
        stepped = self.stepped
        return 0.0 if stepped is None else time.monotonic() - stepped

    def describe(self) -> str:
        """Return what it does or waits for, and where its thread is in the program."""
        place = _place_of(self._thread)
        return f"it {self.doing}" + (f", in {place}" if place else "")


class _Pause(NamedTuple):
    """A time in which this process did not run. ended: when, in monotonic seconds."""

    ended: float = -math.inf
    seconds: float = 0.0


_activities: dict[int, Activity] = {}
_newest_pause = [_Pause()]
_lock = threading.Lock()
_of_thread = threading.local()


@contextmanager
def running(name: str, doing: str = "works") -> Iterator[Activity]:
    """Show the work of this thread as an activity until the context is left."""
    activity, before = Activity(name, doing), _stack()
    _of_thread.stack = (*before, activity)
    with _lock:
        _activities[id(activity)] = activity
    try:
        yield activity
    finally:
        _of_thread.stack = before
        with _lock:
            del _activities[id(activity)]


def step(doing: str | None = None) -> None:
    """Make a step in the activities of this thread. doing: what comes now."""
    for activity in _stack():
        activity.step(doing)


def current() -> Activity | None:
    """Return the innermost activity of this thread."""
    stack = _stack()
    return stack[-1] if stack else None


def observe() -> None:
    """Count what the threads did since the last call; once a second."""
    for activity in _all():
        activity.observe()


def forgive(seconds: float) -> None:
    """Do not count the last `seconds` as time without a step, because this process did not run."""
    now = time.monotonic()
    _newest_pause[0] = _Pause(now, seconds)
    for activity in _all():
        if (stepped := activity.stepped) is not None:
            activity.stepped = min(now, stepped + seconds)


def paused_since(moment: float) -> float:
    """Return for how many seconds since `moment` (monotonic) this process did not run."""
    pause = _newest_pause[0]
    return pause.seconds if pause.ended > moment else 0.0


def stuck_activities() -> list[Activity]:
    """Return the activities that made no step for STUCK_SECONDS, longest without a step first."""
    working = [activity for activity in _all() if activity.stepped is not None]
    silent = [activity for activity in working if activity.seconds_without_step() >= STUCK_SECONDS]
    return sorted(silent, key=lambda activity: -activity.seconds_without_step())


def wait_for(
    is_over: Callable[[float], object],
    what: str,
    worker: Callable[[], Activity | None] = lambda: None,
    seconds: float = WAIT_SECONDS,
) -> None:
    """Wait until `is_over` returns true. Its argument is how many seconds it may wait itself.

    worker: returns the activity that is waited for. Each of its steps also counts as a step of this thread and begins
    the deadline again. Raises TooBusy once it made no step for `seconds`.
    """
    if is_over(0.0):
        return
    stack, newest = _stack(), time.monotonic()
    seen = newest
    doing = [activity.doing for activity in stack]
    for activity in stack:
        activity.doing, activity.waits = f"waits for {what}", True
    try:
        while not is_over(_SLICE_SECONDS):
            slept, seen = time.monotonic() - seen, time.monotonic()
            if slept >= PAUSE_SECONDS:
                newest += slept
            if (working := worker()) is not None:
                working.observe()
                if (working.stepped or 0.0) > newest:
                    newest = time.monotonic()
                    step()
            if time.monotonic() - newest >= seconds:
                raise _without_progress(what, seconds, working)
    finally:
        for activity, before in zip(stack, doing, strict=True):
            activity.doing, activity.waits = before, False


def result_of(future: Future[T], what: str, worker: Callable[[], Activity | None]) -> T:
    """Wait for a future as `wait_for` does, and return its result or raise its error."""

    def is_over(seconds: float) -> bool:
        with suppress(TimeoutError):
            future.exception(seconds)
        return future.done()

    wait_for(is_over, what, worker)
    return future.result(0)


def wait_for_thread(
    thread: threading.Thread, what: str, worker: Callable[[], Activity | None], seconds: float = WAIT_SECONDS
) -> None:
    """Wait for the end of a thread as `wait_for` does."""

    def is_over(at_most: float) -> bool:
        thread.join(at_most)
        return not thread.is_alive()

    wait_for(is_over, what, worker, seconds)


class Turn:
    """A lock around work that may take long because it reads or writes files: threads wait for it as `wait_for` does.

    name: a noun for the work; health shows it after "waits for the".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.holder: Activity | None = None
        self._lock = threading.Lock()

    @contextmanager
    def held(self, seconds: float = WAIT_SECONDS, *, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for the turn and keep it until the context is left. Raises TooBusy as `wait_for` does.

        check: called while it waits; what it raises ends the wait.
        """

        def is_over(at_most: float) -> bool:
            check()
            return self._acquire(at_most)

        wait_for(is_over, f"the {self.name}", lambda: self.holder, seconds)
        try:
            with self._shown():
                yield
        finally:
            self._lock.release()

    @contextmanager
    def held_if_free(self) -> Iterator[bool]:
        """Yield whether the turn was free; if it was, keep it until the context is left."""
        if not self._acquire(0.0):
            yield False
            return
        try:
            with self._shown():
                yield True
        finally:
            self._lock.release()

    def _acquire(self, seconds: float) -> bool:
        return self._lock.acquire(timeout=seconds)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Let those who wait see who holds the turn: the activity of this thread, or one with the name of the work."""
        activity = current()
        try:
            if activity is not None:
                self.holder = activity
                yield
            else:
                with running(self.name) as self.holder:
                    yield
        finally:
            self.holder = None


def _stack() -> tuple[Activity, ...]:
    return getattr(_of_thread, "stack", ())


def _all() -> list[Activity]:
    with _lock:
        return list(_activities.values())


def _used_by(task: Path) -> tuple[int, int]:
    """Return how many nanoseconds of the processor a thread used, and how many reads and writes it began."""
    processor = calls = 0
    with suppress(OSError, ValueError, IndexError):
        processor = int((task / "schedstat").read_bytes().split()[0])
    with suppress(OSError, ValueError, IndexError):
        numbers = (task / "io").read_bytes().split()
        calls = int(numbers[5]) + int(numbers[7])
    return processor, calls


def _place_of(thread: int) -> str:
    """Return the function of EventVault that the thread is in; empty if it has ended."""
    frame = sys._current_frames().get(thread)
    while frame is not None and not frame.f_code.co_filename.startswith(_PROJECT):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}" if frame is not None else ""


def _without_progress(what: str, seconds: float, worker: Activity | None) -> TooBusy:
    made = f"which made no step for {seconds:.0f} s" if worker is None else f"but {worker.name} makes no step"
    return TooBusy(
        f"this waited for {what}, {made}",
        hint="GET /api/health names what is stuck, and what it waits for; try again once that has ended",
    )

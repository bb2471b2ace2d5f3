"""Watches the progress of the store: logs what is stuck, and ends a store whose committer makes no step.

A stuck store would keep its locks, so that no other could take over. After each store that ended so, the next one gets
twice as long: if the cause stays, such as a slow disk, interruptions become rarer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from eventvault import clock, progress
from eventvault.database.commit import COMMITTER
from eventvault.problems import Problem

log = logging.getLogger("BackupManager")

END_SECONDS = 60.0
"""A store ends itself if its committer made no step for this long, the next store after twice as long, and so on."""
MAX_DOUBLINGS = 6
CHECK_SECONDS = 1.0
LOG_SECONDS = 1.0
"""How long writing a line of the log may take: the program that reads the log may be stuck too."""
FORGET_SECONDS = 3600.0
"""A store that lived for this long gives the next one END_SECONDS again."""


class Watchdog:
    """A thread that waits for nothing but its own clock, not even for the log.

    doublings: how many stores ended so in a row before this one. end: ends the process; it gets the reason, and the
    number of such stores with this one.
    """

    def __init__(self, doublings: int, end: Callable[[str, int], None]) -> None:
        self.patience = END_SECONDS * 2 ** min(doublings, MAX_DOUBLINGS)
        self._doublings = doublings
        self._end = end
        self._started = time.monotonic()
        self._named: set[str] = set()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(CHECK_SECONDS)
            self.observe(time.monotonic() - began)

    def observe(self, slept: float) -> None:
        """Observe and check all threads. slept: in seconds; longer than CHECK_SECONDS if the process was paused."""
        if slept >= progress.PAUSE_SECONDS:
            progress.forgive(slept)
        progress.observe()
        self.check()

    def check(self) -> None:
        """Log once what is stuck, and end the store if its committer has been stuck for too long."""
        stuck = progress.stuck_activities()
        for activity in stuck:
            if activity.name not in self._named:
                _log(_message(activity))
            if activity.name == COMMITTER and activity.seconds_without_step() >= self.patience:
                lived = time.monotonic() - self._started
                self._end(_message(activity), 1 + (self._doublings if lived < FORGET_SECONDS else 0))
        self._named = {activity.name for activity in stuck}


def _log(message: str) -> None:
    thread = threading.Thread(target=log.error, args=("%s", message), daemon=True)
    thread.start()
    thread.join(LOG_SECONDS)


def stuck_problems() -> list[Problem]:
    """Return a problem for each kind of activity that is stuck. Waits for nothing: it reads only memory."""
    longest = {activity.name: activity for activity in reversed(progress.stuck_activities())}
    return [_problem(activity) for activity in longest.values()]


def _problem(activity: progress.Activity) -> Problem:
    hint = "see whether the disk that it uses answers; it goes on once what it waits for does"
    if activity.name == COMMITTER:
        hint += ". If it makes no step for a minute or more, the store ends itself, and another one takes over"
    since = clock.now() - round(activity.seconds_without_step() * 1e6)
    return Problem("stuck", _message(activity), hint, activity.name, since)


def _message(activity: progress.Activity) -> str:
    return f"the {activity.name} made no step for {activity.seconds_without_step():.0f} s: {activity.describe()}"

"""Faults in random order while jobs are submitted and run, and what must hold when they are over.

The faults overlap: a process that is stopped goes on when its time is over, whatever is done to the others meanwhile,
and the next fault comes when a handler has ended since, or at once.
"""

from __future__ import annotations

import heapq
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault.jobs.job import JobRequest, JobSchedule
from tests.clock_shim import SettableClock
from tests.crash import job_invariants
from tests.crash.jobs_of_service import PATIENCE_SECONDS, Jobs, image_of, stop
from tests.processes import states, wait_until

NONE_AT_ALL: Mapping[str, list[int]] = {}
MINUTE, HOUR = 60, 3_600
MOST_COPIES = 25


class Faults:
    """Kills and stops processes. counts: of each kind. harmed: the supervisors among them.

    longest: how long a process is stopped at most, in seconds. on_stop: called with the part of one that stands still.
    kills: how a part is killed, if not by SIGKILL; None: it is only stopped.
    """

    def __init__(
        self, chance: random.Random, longest: float, on_stop: Callable[[str], None],
        kills: Mapping[str, Callable[[], None] | None],
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.harmed: set[int] = set()
        self._chance = chance
        self._longest = longest
        self._on_stop = on_stop
        self._kills = kills
        self._stopped: list[tuple[float, int]] = []

    def strike(self, parts: Mapping[str, Sequence[int]]) -> bool:
        """Kill or stop one process of a part that has some. Returns whether one was there."""
        there = sorted(part for part, pids in parts.items() if pids)
        if not there:
            return False
        part = self._chance.choice(there)
        pid = self._chance.choice(sorted(parts[part]))
        is_stopped = any(pid == one for _, one in self._stopped)
        may_be_killed = self._kills.get(part, os.kill) is not None
        if is_stopped and not may_be_killed:
            return False
        how = "kill" if may_be_killed and (is_stopped or self._chance.random() < 0.5) else "stop"
        try:
            self._kill(part, pid) if how == "kill" else self._stop(part, pid)
        except ProcessLookupError:
            return False
        self.counts[f"{how} {part}"] += 1
        if part == "supervisor":
            self.harmed.add(pid)
        return True

    def let_go_on(self, *, all_of_them: bool = False) -> bool:
        """Let those go on whose time is over. Returns whether there was one."""
        count = len(self._stopped)
        while self._stopped and (all_of_them or self._stopped[0][0] <= time.monotonic()):
            _, pid = heapq.heappop(self._stopped)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return len(self._stopped) < count

    def _kill(self, part: str, pid: int) -> None:
        kill = self._kills.get(part)
        if kill is not None:
            kill()
        else:
            os.kill(pid, signal.SIGKILL)  # it may still run for a moment, and would not be started again
            wait_until(lambda: set(states(pid)) <= {"Z", "X"}, f"process {pid} does not end")

    def _stop(self, part: str, pid: int) -> None:
        stop(pid)
        self._on_stop(part)
        heapq.heappush(self._stopped, (time.monotonic() + self._chance.uniform(0.05, self._longest), pid))


class Load:
    """Submits jobs all the time. accepted: the ids of those that were accepted.

    accept: submits jobs, until they are accepted.
    """

    def __init__(self, accept: Callable[[list[JobRequest]], None], seed: int) -> None:
        self.accepted: list[str] = []
        self._accept = accept
        self._chance = random.Random(seed + 1)
        self._stopping = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        assert not self._failure, self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(0.05):
                asked = [self._request(len(self.accepted) + number) for number in range(self._chance.randrange(1, 6))]
                self._accept(asked)
                self.accepted += [str(one.id) for one in asked]
        except Exception as error:  # noqa: BLE001 - the test says it
            self._failure.append(error)

    def _request(self, number: int) -> JobRequest:
        if self._chance.random() < 0.03:
            return JobRequest(id=f"j{number}", type="exit")
        seconds = self._chance.choice([0] * 12 + [0.01, 0.3])
        key = self._chance.choice([None] * 8 + ["a", "b"])
        return JobRequest(id=f"j{number}", type="note", payload=msgspec.Raw(msgspec.json.encode(seconds)), key=key)


class Series:
    """A series of faults. lease: in seconds. accept: submits jobs. keep: starts again what the test runs by itself.

    clock: of the service, to set it ahead and back. others: parts beside those of the service. kills: see Faults.
    """

    def __init__(
        self, jobs: Jobs, *, lease: float, seed: int,
        accept: Callable[[list[JobRequest]], None], keep: Callable[[], None] = lambda: None,
        clock: SettableClock | None = None,
        others: Callable[[], Mapping[str, list[int]]] = lambda: NONE_AT_ALL,
        kills: Mapping[str, Callable[[], None] | None] = NONE_AT_ALL,  # type: ignore[assignment]
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._clock = clock
        self._seed = seed
        self._chance = random.Random(seed)
        self._accept = accept
        self._keep = keep
        self._others = others
        self._copies: list[Path] = []
        self.faults = Faults(self._chance, 1.5 * lease, self._copy_database, kills)

    def run(self, count: int, flush: Callable[[], None] = lambda: None) -> list[str]:
        """Let so many faults happen, wait until all is quiet, and check all. Returns the ids of the accepted jobs.

        flush: returns once all that was submitted was accepted.
        """
        backup = self._back_up()
        self._jobs.client.put_schedule(JobSchedule(name="minutely", type="note", cron="* * * * *", overlap=True))
        offsets = offsets_of(count) if self._clock is not None else {}
        with Load(self._accept, self._seed) as load:
            try:
                for number in range(count):
                    self._set_clock(offsets.get(number))
                    self._strike()
                self._set_clock(max(offsets.values(), default=0) + MINUTE)
            finally:
                self.faults.let_go_on(all_of_them=True)
            self._keep()
        self._believe_clock()
        flush()
        print(f"faults: {dict(sorted(self.faults.counts.items()))}; jobs: {len(load.accepted)}")
        self._jobs.client.delete_schedule("minutely")
        self._jobs.wait_for_quiet(len(load.accepted))
        self._check(load.accepted, backup)
        return load.accepted

    def _set_clock(self, offset: int | None) -> None:
        if self._clock is not None and offset is not None:
            self._clock.set_offset(offset)

    def _believe_clock(self) -> None:
        """Accept the time if a process began while the clock was set back: it does not believe the return by itself."""
        if self._clock is None:
            return
        service = self._jobs.service
        service.wait_until_ready()

        def is_believed() -> bool:
            posted = service.post("/api/events", {"type": "a"})
            problems = {problem["code"] for problem in service.get("/api/health").json()["problems"]}
            if "clock_ahead" in problems:
                service.post("/api/problems/clock_ahead/accept")
            return posted.status == 201 and "clock_ahead" not in problems

        wait_until(is_believed, "the clock is not believed", PATIENCE_SECONDS)

    def _back_up(self) -> str:
        assert self._jobs.service.post("/api/events", {"type": "a"}).status == 201
        name: str = self._jobs.service.post("/api/backup/create").json()["name"]
        return name

    def _strike(self) -> None:
        """Let one fault happen, at once or after some runs of handlers, or when a stopped process has gone on."""
        goal = self._jobs.run_to_the_end() + self._chance.choice([0, 1, 5, 15])
        wait_until(
            lambda: self.faults.let_go_on() or self._jobs.run_to_the_end() >= goal, "nothing goes on", PATIENCE_SECONDS
        )
        wait_until(lambda: self.faults.strike({**self._jobs.parts(), **self._others()}), "no process is there")
        self._keep()

    def _copy_database(self, part: str) -> None:
        if part == "dispatcher" and len(self._copies) < MOST_COPIES:
            self._copies.append(self._jobs.copy_database())

    def _check(self, accepted: Sequence[str], backup: str) -> None:
        image = self._jobs.image_without_letters()
        job_invariants.check_quiet(image, self._jobs.runs(), accepted, self.faults.harmed)
        assert self._clock is None or job_invariants.firings(image.records()), "10: the schedule did not fire"
        job_invariants.check_on_the_way(map(image_of, self._copies), image)
        self._jobs.service.wait_until_ready()
        assert self._jobs.service.post("/api/backup/restore", {"backupName": backup}).status == 200
        job_invariants.check_restores(image, self._jobs.image())


def offsets_of(count: int) -> dict[int, int]:
    """Return at which fault the clock is set to which offset: ahead by a minute each time, and back for a while."""
    minutes = {count * step // 8: MINUTE * step for step in range(1, 8)}
    minutes[count * 3 // 8] = 2 * MINUTE - HOUR
    minutes[count * 4 // 8] = 3 * MINUTE - HOUR
    return minutes

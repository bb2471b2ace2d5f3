"""A month of jobs at ten a second: how many of them are kept, and how much room they take.

26 million jobs are too many for a test: a real `jobs_db` sees the same ratio of numbers, and the numbers themselves are
for a database that has no jobs but knows by arithmetic which it would have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

import msgspec
import pytest

from eventvault.jobs import commands, keys, reports
from eventvault.jobs import database as jobs_database
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.job import JobType
from eventvault.jobs.ledger import EndedJob, JobCounts
from eventvault.jobs.machine import Machine
from eventvault.jobs.messages import Done, Run, SessionHello, Work
from eventvault.jobs.queue import DAY, QueueLimits
from eventvault.jobs.transport import Received
from tests.eventvault.jobs.rig import START, request

SECOND = 1_000_000
A_SECOND = 10
MONTH = 30 * DAY
BLOCK = 250
"""So many jobs are submitted in one turn and done in the next."""
KEPT = 1_500
TEXT_BYTES = 2_000


class Factory:
    """A machine over a real `jobs_db`, whose clock is passed in, and a worker that does at once what it is sent."""

    def __init__(self, folder: Path, limits: QueueLimits) -> None:
        self.database = JobsDatabase(folder / "jobs_db")
        self.database.open()
        self.machine = Machine(self.database, limits)
        self.machine.load(0.0)
        self.now = START
        self._numbers = count()
        self._turn(
            lambda: self._report(SessionHello(session="s", host="h", version="1", concurrency=BLOCK, types=[TYPE]))
        )

    def run_block(self) -> None:
        """Have the next jobs done, in as many seconds as they take, and let what is kept be looked through."""
        texts = (os.urandom(TEXT_BYTES // 2).hex() for _ in range(BLOCK))
        wanted = [
            request(f"{number:08}", payload=msgspec.Raw(b'"%s"' % text.encode()))
            for number, text in zip(islice(self._numbers, BLOCK), texts, strict=True)
        ]
        work = self._turn(lambda: commands.submit(self.machine.queue, wanted, "me"))
        assert len(work) == BLOCK
        self._turn(lambda: [self._do(run) for run in work if isinstance(run, Run)])
        self.now += BLOCK * SECOND // A_SECOND
        self._turn(lambda: None)
        while self.machine.upkeep.has_more:
            self._turn(lambda: None)

    def finished(self) -> list[int]:
        """When the jobs that are kept have ended."""
        prefix = keys.ended_prefix(is_dead=False)
        return [keys.read_ended(key)[0] for key, _ in self.database.scan(prefix, keys.end_of(prefix))]

    def bytes_on_disk(self) -> int:
        found = 0
        for file in self.database.folder.iterdir():
            with suppress(FileNotFoundError):  # LevelDB merges meanwhile
                found += file.stat().st_size
        return found

    def _do(self, run: Run) -> None:
        self._report(Done(session="s", token=run.token, job=run.job, seconds=0.1, result=run.payload))

    def _report(self, report: SessionHello | Done) -> None:
        reports.process(self.machine.queue, Received(report))

    def _turn(self, decide: Callable[[], object]) -> list[Work]:
        self.machine.begin(self.now, self.now / SECOND)
        decide()
        decision = self.machine.finish()
        if decision.changes:
            self.database.write(decision.changes)
        return decision.work


TYPE = JobType(name="report")


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [pytest.param(8, id="8"), pytest.param(400, id="400", marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "limits",
    [QueueLimits(keep=KEPT // A_SECOND * SECOND), QueueLimits(keep=MONTH, keep_max=KEPT)],
    ids=["as long as JOBS_KEEP says", "as many as JOBS_KEEP_MAX says"],
)
def test_finished_jobs_stay_within_what_is_kept_and_so_does_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: QueueLimits, rounds: int
) -> None:
    """Many times as many jobs as are kept. A smaller buffer lets LevelDB merge as often as with a month of them."""
    monkeypatch.setattr(jobs_database, "WRITE_BUFFER_BYTES", 2**18)
    factory = Factory(tmp_path, limits)
    largest = 0
    for _ in range(rounds * KEPT // BLOCK):
        factory.run_block()
        ended = factory.finished()
        assert len(ended) <= KEPT
        assert factory.now - min(ended) <= KEPT // A_SECOND * SECOND
        largest = max(largest, factory.bytes_on_disk())
    kept = sum(len(key) + len(value) for key, value in factory.database.scan(b"", b"\xff"))
    print(f"{kept} bytes are kept, and took {largest} on disk at most")
    assert len(ended) == KEPT
    assert largest < 8 * kept, "less than what eight rounds have written"
    factory.database.close()


class Arithmetic:
    """A database with `there` jobs that ended one after another, ten a second; `gone` of them were removed."""

    def __init__(self, there: int, newest: int) -> None:
        self.there = there
        self.gone = 0
        self._first = newest - (there - 1) * SECOND // A_SECOND

    def get(self, key: bytes) -> bytes | None:
        counts = JobCounts(order=self.there, states={"done": self.there})
        return msgspec.json.encode(counts) if key == keys.META_COUNTS else None

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        del stop, reverse
        if not start.startswith(keys.ended_prefix(is_dead=False)):
            return
        for number in range(self.gone, self.there):
            key = keys.ended_key(is_dead=False, ended=self.ended(number), order=number)
            if key >= start:
                yield key, msgspec.json.encode(EndedJob(f"j{number}", "report", "done"))

    def ended(self, number: int) -> int:
        return self._first + number * SECOND // A_SECOND


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "limits"),
    [(MONTH // SECOND * A_SECOND + 1, QueueLimits(keep=MONTH, keep_max=10**9)), (1_000_000, QueueLimits(keep=MONTH))],
    ids=["26 million by JOBS_KEEP", "a million by JOBS_KEEP_MAX"],
)
def test_a_month_of_jobs_goes_as_fast_as_another_one_comes(there: int, limits: QueueLimits) -> None:
    """Ten minutes at the end of a month, and an hour in which nothing was removed."""
    now, most = START, min(there, limits.keep_max)
    database = Arithmetic(there, now)
    machine = Machine(database, limits)
    machine.load(0.0)

    def pass_seconds(seconds: int) -> None:
        nonlocal now
        now += seconds * SECOND
        database.there += seconds * A_SECOND
        machine.queue.ledger.counts.states["done"] += seconds * A_SECOND

    def turn() -> None:
        machine.begin(now, now / SECOND)
        changes = machine.finish().changes
        database.gone += sum(value is None and key.startswith(keys.ENDED) for key, value in changes.items())
        assert machine.queue.ledger.counts.finished == database.there - database.gone

    for _ in range(600):
        pass_seconds(1)
        turn()
        assert machine.queue.ledger.counts.finished <= most
    pass_seconds(3_600)
    turns = 0
    while machine.queue.ledger.counts.finished > most:
        pass_seconds(1)  # as long as one turn waits at most
        turn()
        turns += 1
    assert turns < 100
    assert now - database.ended(database.gone) <= limits.keep

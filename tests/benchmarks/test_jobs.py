"""What is counted of jobs: those after the first part, and the CPU of each."""

from __future__ import annotations

import pytest

from benchmarks import bench_jobs


class Side:
    """Does a hundred jobs each time it is asked, of those that were submitted and are not held."""

    name = "a side"

    def __init__(self) -> None:
        self.clock = 0.0
        self.waiting = self.finished = 0
        self.is_held = False
        self.calls: list[str] = []

    def submit(self, count: int) -> None:
        self.calls.append("submit")
        self.waiting += count

    def hold(self) -> None:
        self.calls.append("hold")
        self.is_held = True

    def release(self) -> None:
        self.calls.append("release")
        self.is_held = False

    def done(self) -> int:
        count = 0 if self.is_held else min(self.waiting, 100)
        self.waiting -= count
        self.finished += count
        self.clock += 0.1
        return self.finished

    def cpu(self) -> float:
        return self.finished * 0.0002


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    made = Side()
    monkeypatch.setattr(bench_jobs.time, "perf_counter", lambda: made.clock)
    monkeypatch.setattr(bench_jobs.time, "sleep", lambda _: None)
    return made


def test_drained_counts_from_the_first_part_on_and_waits_for_all(side: Side) -> None:
    assert bench_jobs.drained(side, 1_000) == pytest.approx(1_000)
    assert side.calls == ["hold", "submit", "release"]
    assert side.finished == 1_000


def test_end_to_end_counts_from_the_first_submission(side: Side) -> None:
    side.submit(100)
    side.done()
    rate, cpu = bench_jobs.through(side, 1_000)
    assert rate == pytest.approx(1_000 / 1.0, rel=0.11)
    assert cpu == pytest.approx(200)
    assert side.finished == 1_100

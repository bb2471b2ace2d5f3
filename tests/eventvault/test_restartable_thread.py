"""A thread that can be started again never runs beside the one before, even if that one hangs."""

from __future__ import annotations

import threading

import pytest

from eventvault import restartable_thread
from eventvault.errors import TooBusy
from eventvault.restartable_thread import RestartableThread
from tests.processes import wait_until

pytestmark = pytest.mark.slow


def test_no_thread_works_beside_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restartable_thread, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(restartable_thread, "_CHECK_SECONDS", 0.01)
    hanging, begun, together, most = threading.Event(), threading.Semaphore(0), [0], [0]

    def work(stopping: threading.Event) -> None:
        together[0] += 1
        most[0] = max(most[0], together[0])
        begun.release()
        hanging.wait(30)
        stopping.wait(30)
        together[0] -= 1

    thread = RestartableThread("reader", "reads", work)
    thread.start()
    assert begun.acquire(timeout=30)
    for _ in range(2):
        with pytest.raises(TooBusy):
            thread.stop()
        thread.start()
    hanging.set()
    assert begun.acquire(timeout=30), "the newest one works once the others have ended"
    monkeypatch.setattr(restartable_thread, "STOP_SECONDS", 30.0)
    thread.stop()
    wait_until(lambda: together == [0], "a thread works still")
    assert most == [1]

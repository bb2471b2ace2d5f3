"""The threads that all streams share: they run while there are streams, also after the system refused one."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from app.streams.shared_threads import SharedThreads
from tests.processes import wait_until


def test_all_threads_start_with_the_next_member_after_the_system_refused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    has_stepped = {"reader": threading.Event(), "tail": threading.Event()}
    is_over = threading.Event()

    def step(name: str) -> None:
        has_stepped[name].set()
        is_over.wait(0.01)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = SharedThreads({name: partial(step, name) for name in has_stepped})
    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.join("refused", lambda: None)
    threads.leave("refused")
    threads.join("next", lambda: None)
    try:
        wait_until(lambda: all(event.is_set() for event in has_stepped.values()), "a thread was not started")
    finally:
        threads.leave("next")
        is_over.set()

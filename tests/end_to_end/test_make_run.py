"""`make run`: however it is ended, nothing is left running."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.processes import wait_until
from tests.service import PROJECT, STOPPED_WITHIN, Service

MADE = PROJECT / ".venv" / "runtime.installed"
INSTALLED = ["--assume-old=requirements.txt", "--assume-old=pyproject.toml"]

pytestmark = [
    pytest.mark.skipif(shutil.which("make") is None, reason="there is no make"),
    pytest.mark.skipif(not MADE.exists(), reason="the virtual environment was not made by make"),
]


@pytest.fixture
def running(service: Callable[..., Service]) -> Iterator[Service]:
    # Where the tests run under nohup, SIGHUP is ignored, and no shell can trap what was ignored when it began.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield service(workers=1, command=["make", "--no-print-directory", *INSTALLED, "run"])
    finally:
        signal.signal(signal.SIGHUP, before)


def gone(running: Service) -> None:
    with suppress(ChildProcessError):
        running.process.wait(60)
    wait_until(lambda: not running.processes(), f"left over: {running.processes()}", STOPPED_WITHIN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_all_like_that_of_a_terminal_ends_it(running: Service, number: signal.Signals) -> None:
    os.killpg(running.process.pid, number)
    gone(running)


def test_it_serves_and_a_signal_to_make_alone_ends_it(running: Service) -> None:
    assert running.post("/api/events", {"type": "made"}).status == 201
    running.process.terminate()
    gone(running)
    assert "Handling signal: term" in running.log()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv to notice the death of make")
def test_it_ends_with_a_make_that_is_killed(running: Service) -> None:
    running.process.kill()
    gone(running)
    assert "Handling signal: term" in running.log()

"""A child gets its whole input, however short the time-outs are and however early it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from eventvault.child_input import send_input
from eventvault.errors import TooBusy

LATE = "import sys, time; time.sleep(0.3); print(len(sys.stdin.read()))"


def begin(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def output_of(child: subprocess.Popen[bytes]) -> bytes:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=0.01)[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 10, 1_000_000])
def test_all_of_it_arrives_after_many_time_outs(size: int) -> None:
    child = begin(LATE)
    send_input(child, b"x" * size)
    assert int(output_of(child)) == size


def test_a_child_that_ends_without_reading_it_is_no_error() -> None:
    child = begin("print(1)")
    send_input(child, b"x" * 1_000_000)
    assert output_of(child) == b"1\n"


def test_without_a_thread_the_child_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    child = begin(LATE)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TooBusy, match="can't start new thread"):
        send_input(child, b"x")
    assert output_of(child) == b""
    assert child.returncode != 0

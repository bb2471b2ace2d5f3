"""The dead man's switch of scheduled backups, at a real receiver."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from eventvault.errors import NoSpace
from eventvault.notifications import pinger as module
from eventvault.notifications.pinger import Pinger, with_signal
from tests import processes
from tests.ports import free_port
from tests.receivers import Hook, hooked


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hooked() as one:
        yield one


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.1, 0.1))
    monkeypatch.setattr(module, "ANSWER_SECONDS", 2.0)


@pytest.fixture
def pinger(hook: Hook) -> Iterator[Pinger]:
    one = Pinger(f"http://127.0.0.1:{hook.port}/geheim?key=geheim")
    one.start()
    yield one
    one.stop()


@pytest.mark.parametrize(
    ("address", "signal", "asked"),
    [
        ("https://hc-ping.com/3f1e", "/start", "https://hc-ping.com/3f1e/start"),
        ("https://hc-ping.com/3f1e", "", "https://hc-ping.com/3f1e"),
        ("https://hc-ping.com/3f1e/", "/fail", "https://hc-ping.com/3f1e/fail"),
        ("https://example.org/api?key=1", "/fail", "https://example.org/api/fail?key=1"),
        ("https://example.org/api?key=1", "", "https://example.org/api?key=1"),
        ("http://example.org:8000", "/start", "http://example.org:8000/start"),
    ],
)
def test_the_signal_stands_behind_the_path(address: str, signal: str, asked: str) -> None:
    assert with_signal(address, signal) == asked


@pytest.mark.process
def test_each_step_of_a_backup_is_told_in_order(hook: Hook, pinger: Pinger) -> None:
    pinger.begun()
    pinger.succeeded()
    pinger.begun()
    pinger.failed(NoSpace("the disk is full"))
    processes.wait_until(lambda: pinger.counts["sent"] == 4, "it does not ask four times")
    assert hook.paths == [f"/geheim{signal}?key=geheim" for signal in ("/start", "", "/start", "/fail")]
    assert (pinger.counts["failed"], pinger.problems()) == (0, [])


@pytest.mark.process
@pytest.mark.parametrize("status", [500, None])
def test_a_receiver_that_refuses_or_hangs_is_named_and_asked_again(
    hook: Hook, pinger: Pinger, status: int | None
) -> None:
    hook.status = status
    began = time.monotonic()
    pinger.succeeded()
    assert time.monotonic() - began < module.ANSWER_SECONDS, "a backup does not wait"
    processes.wait_until(pinger.problems, "health does not say so")
    (problem,) = pinger.problems()
    assert (problem.code, problem.about) == ("notify_failing", "PING_URL")
    assert "geheim" not in str(problem)
    hook.status = 200
    hook.release()
    processes.wait_until(lambda: not pinger.problems(), "health still says so")
    assert hook.paths


@pytest.mark.process
def test_a_user_and_a_password_are_sent_to_this_address_only(hook: Hook) -> None:
    with hooked() as moved:
        moved.status, moved.location = 302, f"http://127.0.0.1:{hook.port}/elsewhere"
        pinger = Pinger(f"http://us%40er:ge%3Aheim@127.0.0.1:{moved.port}/ping")
        pinger.start()
        pinger.succeeded()
        processes.wait_until(lambda: pinger.counts["sent"], "it asks nothing")
        pinger.stop()
        assert moved.authorizations == [f"Basic {b64encode(b'us@er:ge:heim').decode()}"]
    assert (hook.paths, hook.authorizations) == (["/elsewhere"], [None])


@pytest.mark.process
def test_one_that_is_gone_is_named() -> None:
    pinger = Pinger(f"http://127.0.0.1:{free_port()}/geheim")
    pinger.start()
    pinger.failed(NoSpace("the disk is full"))
    processes.wait_until(pinger.problems, "health does not say so")
    assert "refused" in str(pinger.problems()[0])
    pinger.stop()


def test_without_an_address_nothing_runs_and_nothing_is_kept() -> None:
    pinger = Pinger(None)
    pinger.start()
    for _ in range(1000):
        pinger.begun()
    assert (pinger.counts, pinger._queue.qsize()) == ({"sent": 0, "failed": 0}, 0)


def test_what_nobody_takes_does_not_grow_without_end() -> None:
    pinger = Pinger("http://127.0.0.1/")  # not started
    for _ in range(1000):
        pinger.succeeded()
    assert pinger._queue.qsize() == 100
    assert pinger.counts["failed"] == 900

"""kill -9 and SIGSTOP of each process of the service, while it is busy."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests import processes
from tests.crash.load import LOST, check_history, exported, loading
from tests.service import Service

SHORT_AND_LONG = [pytest.param(4, id="short"), pytest.param(25, id="long", marks=pytest.mark.soak)]


@pytest.fixture
def seeded() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def the_store(running: Service) -> int:
    """The store that answers."""
    return int(running.get("/api/health").json()["store"]["pid"])


@pytest.mark.parametrize("rounds", SHORT_AND_LONG)
def test_no_client_notices_that_the_store_is_killed(
    service: Callable[..., Service], seeded: random.Random, rounds: int
) -> None:
    running = service()
    killed = set()
    with loading(running.port) as load:
        for _ in range(rounds):
            store = the_store(running)
            kill(store)
            killed.add(store)
            load.advance(seeded.randrange(1, 30))
    assert len(killed) == rounds
    assert not load.troubles
    check_history(exported(running.port), load.acknowledged)

"""Which tests run real processes, in which order the tests are run, and on how many test processes.

A test that runs a service, a store process, a broker or a browser has the marker `process`; `make test-fast` leaves it
out. Such tests wait more than they compute: hence there are more test processes than processors, and what waits longest
comes first, by turns with what waits less. The tests of a module share a test process, and so what its fixtures start;
but a module of long tests that start everything themselves is spread over all test processes, so that none ends long
after the others.

How many rounds a series of chance has, and its seed, come from here too.
"""

from __future__ import annotations

import gc
import math
import os
import random
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
PROCESS_FOLDERS = ("crash", "end_to_end", "browser")
"""All tests in these folders run real processes."""
SOAK_SECONDS = 6 * 3600
"""How long the long form of a series may take, if it does not say itself."""
PROCESS_FIXTURES = frozenset({"kafka", "private_kafka", "nginx", "serve", "store_client"})
"""All tests that use one of these fixtures run real processes."""

SPREAD_MODULES = ("tests/states/test_answers.py", "tests/crash/test_jobs.py", "tests/crash/test_swap_kills.py")
"""Modules of which each test may run in another test process."""


def share(count: int) -> int:
    """Return how many of `count` rounds the long form of a series runs: all, or as SOAK_SHARE says, such as 0.1."""
    return max(1, math.ceil(count * float(os.environ.get("SOAK_SHARE") or 1)))


def series_seed(default: int | None = None) -> int:
    """Return and print the seed of a series of chance: SEED, by which a run is repeated, else the default or any."""
    seed = int(os.environ.get("SEED") or (random.SystemRandom().randrange(2**32) if default is None else default))
    print(f"SEED={seed}")
    return seed


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: three test processes a processor."""
    return 3 * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadscope` but for SPREAD_MODULES; any other `--dist` is xdist's."""
    from xdist.scheduler import LoadScopeScheduling  # here, as pytest runs without xdist too

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(SPREAD_MODULES) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """What is collected stays, so no garbage collection looks through it: not meanwhile, and not later either."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Set the marker before `-m` chooses by it, and the order after the modules were shuffled."""
    for item in items:
        if _runs_processes(item):
            item.add_marker("process")
        if item.get_closest_marker("soak") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SOAK_SECONDS))
    yield
    items.sort(key=_rank)
    items[:] = _by_turns(items)


def _by_turns(items: list[pytest.Item]) -> list[pytest.Item]:
    """A module with a broker, then one without, and so on: else all test processes waited for its start at once."""
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    with_broker = [module for module in modules.values() if _rank(module[0]) == 0]
    others = [module for module in modules.values() if _rank(module[0]) != 0]
    by_turns = chain.from_iterable(zip_longest(with_broker, others, fillvalue=()))
    return list(chain.from_iterable(by_turns))


def _runs_processes(item: pytest.Item) -> bool:
    in_folder = item.path.relative_to(TESTS).parts[0] in PROCESS_FOLDERS
    return in_folder or not PROCESS_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _rank(item: pytest.Item) -> int:
    """Tests with a broker before other processes (see `_by_turns`), and long before short."""
    if item.nodeid.startswith(SPREAD_MODULES) and item.get_closest_marker("process"):
        return 1
    marks = {"kafka": 0, "process": 2, "slow": 3}
    return next((rank for mark, rank in marks.items() if item.get_closest_marker(mark)), 4)

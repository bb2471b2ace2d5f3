"""Real starts overlap in random order: what waits for a start is applied once, and no event of a start is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.settings import PROJECT, Settings, load
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.crash.start_once import serves
from tests.restoring import make_archive, prefixes
from tests.schedule import series_seed, share
from tests.stores import STORE_COMMAND, folders_beneath, wait_until_gone

KILLS = 2
MOST_PAUSE = 1.0
AT_ONCE = 4
"""How many installations have their starts at a time in the long form: most of a start is a wait."""


class Start:
    """A process that starts the service. acknowledged: the events that it was told are on disk."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.acknowledged: list[str] = []
        environment = {**os.environ, **settings.to_environment(), "EVENTVAULT_SERVICE": f"start-{name}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.start_once", name],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "done\n":
                return
            self.acknowledged.append(line.strip())
        raise AssertionError(f"a start ended with {self._process.wait(10)}")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=90)


@contextmanager
def earlier_store(settings: Settings) -> Iterator[Spawner]:
    """The store of an earlier start, which an orphan worker can start again."""
    orphan = Spawner(settings, STORE_COMMAND, service="earlier")
    client = StoreClient.over(orphan)
    client.ensure()
    processes.wait_until(lambda: serves(client), "the earlier store does not serve", 60)
    client.close()
    try:
        yield orphan
    finally:
        hello = orphan.hello()
        if hello is not None:
            orphan.end("")
            wait_until_gone(hello.pid)


def interleave(settings: Settings, seed: int) -> None:
    """Two starts, orphans that start the earlier store again, and kills of whichever store listens."""
    order = random.Random(seed)

    def after_a_pause(work: Callable[[], None], pause: float) -> None:
        time.sleep(pause)
        work()

    is_staged = order.random() < 0.5
    with earlier_store(settings) as orphan, ThreadPoolExecutor(8) as pool:
        archive = make_archive((settings.backup_dir if is_staged else settings.restore_dir) / "a.tar.gz")
        if is_staged:
            _stage(orphan, archive.name)
        starts = [Start(settings, name) for name in "ab"]
        try:
            jobs = [pool.submit(start.read) for start in starts]
            for work in [lambda: _kill_store(orphan)] * KILLS + [lambda: _revive(orphan)] * 2:
                jobs.append(pool.submit(after_a_pause, work, order.uniform(0, MOST_PAUSE)))
            for job in jobs:
                job.result(240)
            _check(settings, [event for start in starts for event in start.acknowledged], seed)
            _check_done(settings, archive, seed, is_staged=is_staged)
        finally:
            for start in starts:
                start.end()


def _stage(orphan: Spawner, archive: str) -> None:
    client = StoreClient.over(orphan)
    client.restore(archive, staged=True)
    client.close()


def _kill_store(orphan: Spawner) -> None:
    hello = orphan.hello()
    if hello is not None and hello.pid:
        with suppress(ProcessLookupError):
            os.kill(hello.pid, signal.SIGKILL)


def _revive(orphan: Spawner) -> None:
    orphan.ensure_started(time.monotonic() + 5)


def _check(settings: Settings, acknowledged: list[str], seed: int) -> None:
    client = StoreClient.over(Spawner(settings, STORE_COMMAND, service="reader", mode="command"))
    try:
        processes.wait_until(lambda: serves(client), "no store serves", 60)
        assert prefixes(client).get("restored") == 3, f"seed {seed}"
        assert len(acknowledged) == 6
        for event in acknowledged:
            client.get(event, "/acknowledged")
        assert [entry.events for entry in client.list_undo()] in ([], [0]), f"seed {seed}"
    finally:
        client.close()


def _check_done(settings: Settings, archive: Path, seed: int, *, is_staged: bool) -> None:
    if is_staged:
        assert not (settings.storage_dir / data_folders.STAGED_RESTORE).exists(), f"seed {seed}"
        assert archive.exists()
    else:
        assert not archive.exists(), f"seed {seed}"
        assert len(list((settings.restore_dir / "restored").iterdir())) == 1, f"seed {seed}"


@pytest.mark.parametrize(
    ("rounds", "at_once"),
    [pytest.param(2, 1, id="short"), pytest.param(share(500), AT_ONCE, id="long", marks=pytest.mark.soak)],
)
def test_an_archive_is_applied_once_however_starts_orphans_and_kills_interleave(
    rounds: int, at_once: int, tmp_path: Path
) -> None:
    first = series_seed()

    def run(seed: int) -> None:
        folder = tmp_path / str(seed)
        try:
            interleave(load(folders_beneath(folder)), seed)
        except BaseException:
            print(f"SEED={seed} failed")
            raise
        shutil.rmtree(folder, ignore_errors=True)  # a store that ends may still write

    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(run, range(first, first + rounds)):
            pass

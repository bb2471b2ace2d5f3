"""An import that is killed at any instant: the same command again, and every event is there once."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import processes
from tests.end_to_end.test_command_line import QUICK
from tests.schedule import series_seed
from tests.service import PROJECT, Service, service_environment

RECORDS = 6_000
BAD = 500
"""Each line whose number is a multiple of this is rejected."""
SHORT_AND_LONG = [pytest.param(4, id="short"), pytest.param(40, id="long", marks=pytest.mark.soak)]


def written(path: Path) -> Path:
    """Lines without ids, so that the import derives them."""
    lines = (b"{\n" if number % BAD == 0 else b'{"type":"a","data":%d}\n' % number for number in range(1, RECORDS + 1))
    path.write_bytes(gzip.compress(b"".join(lines), 1))
    return path


def position(storage: Path) -> int:
    """How far the note says the import came."""
    with suppress(OSError, ValueError):
        for path in (storage / "imports").glob("*.json"):
            return int(json.loads(path.read_bytes())["position"])
    return 0


def wait_until_at(wanted: int, storage: Path, importing: subprocess.Popen[bytes]) -> None:
    processes.wait_until(
        lambda: position(storage) >= wanted or importing.poll() is not None, f"it does not come to {wanted}"
    )


@pytest.mark.parametrize("kills", [pytest.param(2, id="short"), pytest.param(20, id="long", marks=pytest.mark.soak)])
def test_an_import_goes_on_while_the_store_is_killed(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path, kills: int
) -> None:
    running = service(workers=1, environment=QUICK)
    command = [sys.executable, "-m", "tests.crash.import_once", str(written(tmp_path / "a.gz")), "--json"]
    storage = running.folder("STORAGE_DIR")
    with subprocess.Popen(
        command,
        env=service_environment(settings_environment, 0, running.mark),  # it may start the next store itself
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as importing:
        for number in range(kills):
            wait_until_at((number + 1) * RECORDS // (kills + 1), storage, importing)
            processes.kill(running.stores())
        printed, _ = importing.communicate(timeout=120)
    assert importing.returncode == 8, printed
    assert json.loads(printed)["events"] == RECORDS - RECORDS // BAD
    events = [json.loads(line) for line in running.get("/api/events/export").body.splitlines()]
    assert [event["data"] for event in events] == [number for number in range(1, RECORDS + 1) if number % BAD]


@pytest.mark.parametrize("kills", SHORT_AND_LONG)
def test_an_import_that_is_killed_again_and_again_has_each_event_once(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path, kills: int
) -> None:
    running = service(workers=1, environment=QUICK)
    chance = random.Random(series_seed())
    file, rejects = written(tmp_path / "a.gz"), tmp_path / "rejects.ndjson"
    command = [sys.executable, "-m", "tests.crash.import_once", str(file), "--rejects", str(rejects), "--json"]
    environment = service_environment(settings_environment, 0, "import")

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    for wanted in sorted(chance.sample(range(RECORDS), kills)):
        importing = begin()
        storage = running.folder("STORAGE_DIR")
        wait_until_at(wanted, storage, importing)
        time.sleep(chance.random() * 0.01)  # anywhere between two notes
        importing.kill()
        importing.communicate(timeout=60)
    importing = begin()
    printed, said = importing.communicate(timeout=120)
    assert importing.returncode == 8, said
    done = json.loads(printed)
    assert done["resumedAt"] is not None
    assert (done["events"], done["rejected"]) == (RECORDS - RECORDS // BAD, RECORDS // BAD)
    events = [json.loads(line) for line in running.get("/api/events/export").body.splitlines()]
    assert [event["data"] for event in events] == [number for number in range(1, RECORDS + 1) if number % BAD]
    lines = [json.loads(line)["line"] for line in rejects.read_bytes().splitlines()]
    assert lines == list(range(BAD, RECORDS + 1, BAD))

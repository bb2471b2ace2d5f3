"""A database of several logs, harmed in each of them: no event is missing in the middle, and none is lost silently."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.opening import open_checked
from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.examine import examine_database
from tests.schedule import series_seed

pytestmark = pytest.mark.slow

PAGE = 4096
Harm = Callable[[random.Random, Path], None]


def needed_logs(folder: Path) -> list[Path]:
    return [folder / log.name for log in examine_database(folder).logs]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a real database, taken while LevelDB made a table of the first of its two logs: keys 0, 1, 2, …"""
    base = tmp_path_factory.mktemp("several-logs")
    content = random.Random(1)
    with closing(plyvel.DB(str(base / "db"), create_if_missing=True, write_buffer_size=2**20)) as db:
        for number in range(100_000):
            db.put(b"%08d" % number, content.randbytes(200) * 10)
            if len(list((base / "db").glob("*.log"))) == 1:
                continue
            copy = base / f"copy-{number}"
            take_checkpoint(base / "db", copy, contextlib.nullcontext)
            if [log.records > 0 for log in examine_database(copy).logs] == [True, True] and number % 3 == 0:
                return copy
    raise AssertionError("LevelDB never had two logs")


def cut(chance: random.Random, log: Path) -> None:
    content = log.read_bytes()
    log.write_bytes(content[: chance.randrange(1, len(content))])


def flip(chance: random.Random, log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    log.write_bytes(content)


def flip_in_last_record(chance: random.Random, log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[chance.randrange(len(content) - 2000, len(content))] ^= 1 << chance.randrange(8)
    log.write_bytes(content)


def zero_a_page(chance: random.Random, log: Path) -> None:
    content = bytearray(log.read_bytes())
    start = chance.randrange(0, len(content), PAGE)
    content[start : start + PAGE] = bytes(len(content[start : start + PAGE]))
    log.write_bytes(content)


def empty(_: random.Random, log: Path) -> None:
    log.write_bytes(b"")


def delete(_: random.Random, log: Path) -> None:
    log.unlink()


HARMS = (cut, flip, flip_in_last_record, zero_a_page, empty, delete)
SHOW_NO_CHANGE = (cut, zero_a_page, empty, delete)
"""What looks like a write that never reached the disk, at the end of the newest log."""


def check(original: Path, folder: Path, harm: Harm, position: int, chance: random.Random) -> str:
    """Harm one log of a copy and open it. Returns what happened."""
    shutil.copytree(original, folder)
    logs = needed_logs(folder)
    acknowledged = sum(log.records for log in examine_database(folder).logs)
    harm(chance, logs[position])
    try:
        db = open_checked(folder, retain_in=folder.with_name("cut_off"))
    except DatabaseDamaged:
        return "refused"
    with closing(db):
        present = [int(key) for key in db.iterator(include_value=False)]
    assert present == list(range(len(present))), f"a hole after {len(present)} events"
    if len(present) == acknowledged:
        return "whole"
    assert position == len(logs) - 1, "the end of an earlier log was lost"
    changed = list(folder.with_name("cut_off").glob("*.changed"))
    assert changed or harm in SHOW_NO_CHANGE, f"{acknowledged - len(present)} events were lost silently"
    return "named" if changed else "cut"


def check_many(original: Path, tmp_path: Path, seed: int, rounds: int) -> set[str]:
    print(f"seed {seed}")
    chance, outcomes = random.Random(seed), set()
    for number in range(rounds):
        for harm in HARMS:
            for position in (0, 1):
                folder = tmp_path / f"{number}" / "db"
                outcomes.add(check(original, folder, harm, position, chance))
                shutil.rmtree(folder.parent)
    return outcomes


def test_harm_in_any_log_leaves_no_hole_and_is_noticed(original: Path, tmp_path: Path) -> None:
    assert {"refused", "named", "cut"} <= check_many(original, tmp_path, series_seed(), 5)


@pytest.mark.soak
def test_harm_in_any_log_leaves_no_hole_and_is_noticed_many_times(original: Path, tmp_path: Path) -> None:
    check_many(original, tmp_path, series_seed(), 300)

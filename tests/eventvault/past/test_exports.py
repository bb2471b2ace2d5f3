from __future__ import annotations

import gzip
import hashlib
import os
import time
from pathlib import Path

import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import ExportNotFound, NoSpace, OperationCancelled, OperationDecided
from eventvault.events import event
from eventvault.operations.operation import Operation
from eventvault.past import exports
from eventvault.past.exports import KEEP_MICROSECONDS, Exports
from eventvault.store.memory.store import MemoryStore

EVENTS = 2500
"""They take several pages."""


class Clock:
    def __init__(self) -> None:
        self.now = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    store = MemoryStore(tmp_path_factory.mktemp("archives"))
    made = [{"type": f"t{number % 5}", "id": f"e{number}", "data": "x" * 50} for number in range(EVENTS)]
    store.append([event.draft(each, clock.now()) for each in made])
    return store


@pytest.fixture
def states() -> dict[str, str]:
    """Operation id → state."""
    return {}


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def written(store: MemoryStore, tmp_path: Path, states: dict[str, str], now: Clock) -> Exports:
    return Exports(tmp_path, store, lambda operation: states.get(operation, ""), now)


def query(store: MemoryStore, **filters: object) -> ScanQuery:
    return ScanQuery(generation=store.state.generation, upto=EVENTS, **filters)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "exports").glob("*"))


def test_the_file_has_each_event_once_in_order(
    store: MemoryStore, written: Exports, tmp_path: Path, now: Clock
) -> None:
    exported = written.write(query(store), "g", Operation("0" * 16))

    path = written.path("0" * 16)
    content = path.read_bytes()
    text = gzip.decompress(content)
    assert text.splitlines() == store.state.events
    assert (exported.events, exported.sequence, exported.generation) == (EVENTS, EVENTS, "g")
    assert (exported.lines, exported.size) == (len(text), len(content))
    assert exported.sha256 == hashlib.sha256(content).hexdigest()
    assert exported.until == now.now + KEEP_MICROSECONDS
    assert path.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == [f"{'0' * 16}.ndjson.gz"]


def test_a_filter_leaves_out_what_does_not_match(store: MemoryStore, written: Exports) -> None:
    exported = written.write(query(store, type="t3", after=1000), "g", Operation("0" * 16))

    there = [orjson.loads(line) for line in gzip.decompress(written.path("0" * 16).read_bytes()).splitlines()]
    assert {each["type"] for each in there} == {"t3"}
    assert exported.events == len(there) == 300


@pytest.mark.parametrize("filters", [{"type": "none"}, {"after": EVENTS}])
def test_an_export_without_events_is_an_empty_file(
    store: MemoryStore, written: Exports, filters: dict[str, object]
) -> None:
    assert written.write(query(store, **filters), "g", Operation("0" * 16)).events == 0
    assert gzip.decompress(written.path("0" * 16).read_bytes()) == b""


def test_it_reports_how_far_it_is(store: MemoryStore, written: Exports) -> None:
    operation = Operation("0" * 16, kind="export")
    exported = written.write(query(store), "g", operation)

    progress = operation.progress()
    assert progress.step == "write"
    assert progress.bytes_total == pytest.approx(exported.lines, rel=0.1)
    assert progress.bytes_done == pytest.approx(progress.bytes_total, abs=len(range(10)))
    with pytest.raises(OperationDecided):
        operation.cancel()


def test_one_that_is_cancelled_leaves_nothing(
    store: MemoryStore, written: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = Operation("0" * 16)
    monkeypatch.setattr(exports._PackedLines, "put", lambda *_: operation.cancel())

    with pytest.raises(OperationCancelled):
        written.write(query(store), "g", operation)

    assert files(tmp_path) == []
    with pytest.raises(ExportNotFound):
        written.path("0" * 16)


@pytest.mark.slow
def test_a_disk_without_room_is_found_before_it_begins(
    store: MemoryStore, written: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "free_bytes", lambda _: exports.RESERVE_BYTES + 1000)

    with pytest.raises(NoSpace) as caught:
        written.check_room(query(store))
    assert caught.value.details["needed"] > caught.value.details["free"] == exports.RESERVE_BYTES + 1000
    with pytest.raises(NoSpace):
        written.write(query(store), "g", Operation("0" * 16))
    assert not (tmp_path / "exports").exists()
    written.check_room(query(store, type="rare"))


def test_a_disk_that_fills_up_meanwhile_ends_it(
    store: MemoryStore, written: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([2**40, 2**40, exports.RESERVE_BYTES - 1])
    monkeypatch.setattr(exports, "free_bytes", lambda _: next(free))

    with pytest.raises(NoSpace):
        written.write(query(store), "g", Operation("0" * 16))

    assert files(tmp_path) == []


def test_a_file_goes_after_a_day_or_with_its_operation_and_what_was_not_finished_goes_too(
    store: MemoryStore, written: Exports, tmp_path: Path, states: dict[str, str], now: Clock
) -> None:
    for name in ("fresh", "old", "failed", "unknown"):
        written.write(query(store, type="none"), "g", Operation(name))
    states |= {"fresh": "succeeded", "old": "succeeded", "failed": "failed", "runs": "running", "waits": "queued"}
    folder = tmp_path / "exports"
    for name in ("fresh", "failed", "unknown", "runs", "waits"):
        (folder / f".{name}.ndjson.gz.1234.tmp").touch()
    (folder / "strange").touch()
    os.utime(folder / "old.ndjson.gz", ns=((now.now - KEEP_MICROSECONDS) * 1000,) * 2)

    written.remove_unwanted()

    assert files(tmp_path) == [".runs.ndjson.gz.1234.tmp", ".waits.ndjson.gz.1234.tmp", "fresh.ndjson.gz"]


def test_one_that_is_carried_on_replaces_what_was_not_finished(
    store: MemoryStore, written: Exports, tmp_path: Path
) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / f".{'0' * 16}.ndjson.gz.1234.tmp").touch()

    written.write(query(store), "g", Operation("0" * 16))

    assert files(tmp_path) == [f"{'0' * 16}.ndjson.gz"]

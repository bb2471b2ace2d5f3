"""`unfinished.jsonl.gz`: what it has, how damage shows, and that nothing runs of what was taken over until a resume."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import msgspec
import pytest

from eventvault.errors import BackupsChanged
from eventvault.jobs import commands, keys, takeover, unfinished
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import JobSchedule
from eventvault.jobs.unfinished import UnfinishedFile
from eventvault.small_files import SmallFileDamaged
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import DISPATCHER, START, MemoryDatabase, World, request

SCHEDULE = JobSchedule(name="nightly", type="report", cron="0 3 * * *")

FIXTURE = Path(__file__).parents[2] / "fixtures" / "line-checksums" / "unfinished.jsonl.gz"
"""The jobs of `filled()` as they were written when the code of the checksums of lines was this file's own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "unfinished.jsonl.gz"


def filled() -> World:
    """Three jobs: one with a worker, one that waits behind it, one that is done."""
    world = World(positions=True)
    worker = world.worker("report")
    world.submit(request("c"))
    worker.take()
    worker.finish()
    world.turn()
    world.submit(request("a", key="k"), request("b", key="k"))
    world.ask(lambda queue: queue.schedules.put(SCHEDULE, queue.now))
    return world


def taken_over(path: Path) -> World:
    world = World()
    world.database = MemoryDatabase(is_new=True)
    world.dispatcher = Dispatcher(
        world.database, world.wire, now=lambda: world.clocks.now, monotonic=lambda: world.clocks.moment, unfinished=path
    )
    world.dispatcher.open()
    return world


@pytest.mark.slow
def test_unfinished_jobs_come_back_held_and_run_after_a_resume(path: Path) -> None:
    assert unfinished.write(path, filled().database, START) == 2
    world = taken_over(path)
    assert {job.id: job.state for job in world.database.records().values()} == {"a": "held", "b": "held"}
    check_database(world.database)

    worker = world.worker("report")
    world.submit(request("d"))
    world.clocks.pass_seconds(2 * 86_400)
    world.turns()
    assert [world.state(job_id) for job_id in "abd"] == ["held", "held", "pending"]
    assert len(world.database.records()) == 3, "no schedule fires"

    world.ask(lambda queue: commands.resume(queue, None))
    for _ in range(20):
        worker.take()
        while worker.running:
            worker.finish()
        world.turn()
    assert {world.state(job_id) for job_id in "abd"} == {"done"}
    order = [run.message.job for run in world.runs]
    assert order.index("a") < order.index("b")
    check_database(world.database)


def test_each_line_is_what_its_encoder_makes(path: Path) -> None:
    unfinished.write(path, filled().database, START)
    texts = gzip.decompress(path.read_bytes()).splitlines()
    lines = list(unfinished.read(path))
    encoded = [msgspec.json.encode(line) for line in lines]
    assert [b'%b,"crc32":"%08x"}' % (line[:-1], zlib.crc32(line)) for line in encoded] == texts[:-1]
    assert [type(line).__name__ for line in lines] == ["HeadLine", "ScheduleLine", "PositionLine", "JobLine", "JobLine"]


def test_the_text_of_the_first_file_with_checksums_is_read_and_written(path: Path) -> None:
    unfinished.write(path, filled().database, START)
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(FIXTURE.read_bytes())
    assert list(unfinished.read(FIXTURE)) == list(unfinished.read(path))
    path.write_bytes(FIXTURE.read_bytes())
    assert taken_over(path).database.records().keys() == {"a", "b"}


def test_a_writing_that_is_stopped_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_PIECE_BYTES", 1)
    unfinished.write(path, filled().database, START)
    before = path.read_bytes()
    with pytest.raises(unfinished.WritingStopped):
        unfinished.write(path, World().database, START, lambda: True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_was_stopped_is_written_the_next_time(path: Path, tmp_path: Path) -> None:
    database = JobsDatabase(tmp_path / "jobs_db")
    database.open()
    file = unfinished.UnfinishedFile(path, database, lambda: 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "_PIECE_BYTES", 1)
        file.write_if_changed(lambda: True)
    assert not path.exists()
    file.write_if_changed()
    database.close()
    assert [type(line).__name__ for line in unfinished.read(path)] == ["HeadLine"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(BackupsChanged("BACKUP_DIR is another one", hint="mount it"), "mount it"),
     (OSError(13, "Permission denied"), "let the user of the service"),
     (LookupError("nobody foresaw this"), "the log of the dispatcher")],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_named_until_it_can(path: Path, error: Exception, words: str) -> None:
    errors = [error]

    def check() -> None:
        if errors:
            raise errors[0]

    file = UnfinishedFile(path, filled().database, lambda: 1, check=check)  # type: ignore[arg-type]
    file.write_if_changed()
    assert file.problem is not None
    assert file.problem.code == "unfinished_jobs_unwritten"
    assert str(path) in file.problem.message
    assert words in file.problem.hint
    errors.clear()
    file.write_if_changed()
    assert file.problem is None
    assert path.exists()


def test_it_is_taken_over_once(path: Path) -> None:
    unfinished.write(path, filled().database, START)
    world = taken_over(path)
    world.ask(lambda queue: commands.cancel(queue, ["a", "b"]))
    world.start()
    assert {job.state for job in world.database.records().values()} == {"cancelled"}


def test_a_take_over_that_is_interrupted_goes_on_at_the_next_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PAGE", 1)
    unfinished.write(path, filled().database, START)
    world = World()
    world.database = MemoryDatabase(is_new=True)
    world.database.failures = [False] * 2
    dispatcher = Dispatcher(world.database, world.wire, now=lambda: START, monotonic=lambda: 1.0, unfinished=path)
    with pytest.raises(Exception, match="No space left"):
        dispatcher.open()
    dispatcher.open()
    assert {job.id: job.state for job in world.database.records().values()} == {"a": "held", "b": "held"}
    check_database(world.database)


def test_large_payloads_are_taken_over_a_few_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PAGE_BYTES", 1)
    assert unfinished.write(path, filled().database, START) == 2
    turns: list[object] = []
    assert takeover.take_over(path, turns.append) == 2
    assert len(turns) == 2


@pytest.mark.slow
def test_the_copy_of_another_database_is_not_replaced_before_it_was_taken_over(path: Path) -> None:
    """Its disk may have been away when this database was made."""
    unfinished.write(path, filled().database, START)
    database = MemoryDatabase()
    database.entries[keys.META_DISPATCHER] = b"another"
    file = UnfinishedFile(path, database, lambda: 1)  # type: ignore[arg-type]
    before = path.read_bytes()
    file.write_if_changed()
    assert path.read_bytes() == before
    assert file.problem is not None
    assert "not taken over" in file.problem.message
    assert "move that file away" in file.problem.hint
    path.rename(path.with_name("away"))
    file.write_if_changed()
    assert file.problem is None
    assert [line.dispatcher for line in unfinished.read(path) if isinstance(line, unfinished.HeadLine)] == ["another"]


def test_the_copy_that_was_taken_over_is_replaced(path: Path) -> None:
    database = filled().database
    database.entries[keys.META_DISPATCHER] = b"before"
    unfinished.write(path, database, START)
    world = taken_over(path)
    file = UnfinishedFile(path, world.database, lambda: 1)  # type: ignore[arg-type]
    file.write_if_changed()
    assert file.problem is None
    assert [line.dispatcher for line in unfinished.read(path) if isinstance(line, unfinished.HeadLine)] == [DISPATCHER]


@pytest.mark.parametrize(
    ("names", "what"), [("a", "1 job is held: {} brought it back"), ("ab", "2 jobs are held: {} brought them back")]
)
def test_how_many_jobs_are_held_is_said(path: Path, names: str, what: str) -> None:
    world = World()
    world.submit(*map(request, names))
    world.turn()
    unfinished.write(path, world.database, START)
    (problem,) = taken_over(path).dispatcher.status().problems
    assert problem.message == what.format("jobs_db was lost, and a copy in BACKUP_DIR")


def test_what_is_held_is_named_although_nothing_was_unfinished(path: Path) -> None:
    unfinished.write(path, World().database, START)
    world = taken_over(path)
    assert [problem.code for problem in world.dispatcher.status().problems] == ["jobs_held"]
    world.ask(lambda queue: commands.resume(queue, None))
    world.turns(2)
    assert world.dispatcher.status().problems == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "parent"])
def test_what_is_no_file_in_its_place_stops_no_start(path: Path, kind: str) -> None:
    path.parent.mkdir()
    if kind == "parent":
        path.parent.rmdir()
        os.mkfifo(path.parent)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    world = taken_over(path)
    assert world.database.records() == {}
    if kind != "parent":
        path.symlink_to("/dev/zero")  # it comes later
        file = UnfinishedFile(path, world.database, lambda: 1)  # type: ignore[arg-type]
        file.write_if_changed()
        assert file.problem is None
        assert [type(line).__name__ for line in unfinished.read(path)] == ["HeadLine"]


def test_without_a_file_the_database_is_empty(path: Path) -> None:
    assert taken_over(path).database.records() == {}


@pytest.mark.parametrize("damage", ["cut off", "changed", "no gzip"])
def test_a_damaged_file_is_quarantined_and_its_right_lines_are_taken_over(path: Path, damage: str) -> None:
    unfinished.write(path, filled().database, START)
    if damage == "cut off":
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        path.write_bytes(gzip.compress(b"".join(lines[:-2])))
    elif damage == "changed":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b'"key":"k"', b'"key":"l"', 1)))
    else:
        path.write_bytes(b"no gzip at all")
    with pytest.raises(SmallFileDamaged):
        list(unfinished.read(path))
    world = taken_over(path)
    assert world.database.records().keys() == {"cut off": {"a"}, "changed": {"b"}, "no gzip": set()}[damage]
    assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.damaged"]
    check_database(world.database)


@pytest.fixture
def plain(path: Path) -> bytes:
    unfinished.write(path, filled().database, START)
    return gzip.decompress(path.read_bytes())


@pytest.mark.slow
def test_of_a_damaged_file_no_line_is_taken_over_that_was_altered(path: Path, plain: bytes) -> None:
    """Bits of every second byte of the text, as a flipped bit of the gzip member may change any of it."""
    right, head = list(unfinished.read(path)), plain.index(b"\n")
    for bit in range(0, 8 * len(plain), 17):
        damaged = bytearray(plain)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(gzip.compress(damaged, 0))
        lines = []
        with pytest.raises(SmallFileDamaged):
            lines.extend(unfinished.read(path))  # an iterator that raises leaves what came before
        assert all(line in right for line in lines), bit
        assert len(lines) >= (len(right) - 2 if bit > 8 * head + 8 else 0), "a line feed that flips joins two"


def test_a_file_of_an_earlier_version_has_no_checksum_of_a_line(path: Path, plain: bytes) -> None:
    *lines, _ = plain.splitlines()
    earlier = b"".join(line[: line.rindex(b',"crc32"')] + b"}\n" for line in lines)
    end = unfinished.End(hashlib.sha256(earlier).hexdigest(), 2)
    path.write_bytes(gzip.compress(earlier + msgspec.json.encode(end) + b"\n"))
    world = taken_over(path)
    assert world.database.records().keys() == {"a", "b"}
    assert path.exists()

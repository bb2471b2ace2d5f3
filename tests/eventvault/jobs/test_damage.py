"""Damage of `jobs_db`: what is read is right or refused, what is lost is named, and the rest goes on."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import plyvel
import pytest

from eventvault import data_folders
from eventvault.database import cut_off, opening, unreadable_tables
from eventvault.errors import DiskFailed, EventVaultError, JobsDamaged, NoSpace
from eventvault.jobs import commands, keys
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.small_files import read_bytes
from tests.eventvault.jobs.rig import MemoryDatabase, World, request
from tests.schedule import series_seed, share

pytestmark = pytest.mark.slow

JOBS = 300
CORRUPT = plyvel.CorruptionError(b"Corruption: block checksum mismatch: /data/storage/jobs_db/000012.ldb")


def add_jobs(dispatcher: Dispatcher, first: int, last: int, prefix: str = "job") -> None:
    payloads = [b'"%s"' % os.urandom(100).hex().encode() for _ in range(first, last)]
    wanted = [
        request(f"{prefix}-{number}", payload=msgspec.Raw(payload), delay=3600.0)
        for number, payload in enumerate(payloads, first)
    ]
    call = dispatcher.post(lambda queue: commands.submit(queue, wanted, "me"))
    dispatcher.step(0.0)
    assert call.error is None


def opened(folder: Path) -> Dispatcher:
    """Return an open dispatcher, whose thread does not run."""
    dispatcher = Dispatcher(JobsDatabase(folder), MemoryTransport(), retry_seconds=0.0)
    dispatcher.open()
    return dispatcher


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `jobs_db` with a table and a log. The table is larger than LevelDB's blocks."""
    folder = tmp_path_factory.mktemp("jobs") / "storage" / "jobs_db"
    for first in (0, JOBS // 2):  # an opening writes what the log has into a table
        dispatcher = opened(folder)
        add_jobs(dispatcher, first, first + JOBS // 2)
        dispatcher.database.close()
    return folder


@pytest.fixture(scope="module")
def payloads(template: Path) -> dict[str, bytes]:
    copy = shutil.copytree(template, template.with_name("read"))
    dispatcher = opened(copy)
    with dispatcher.database.snapshot() as snapshot:
        found = {key[1:].decode(): value for key, value in snapshot.scan(keys.PAYLOAD, keys.end_of(keys.PAYLOAD))}
    dispatcher.database.close()
    assert len(found) == JOBS
    return found


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "storage" / "jobs_db"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def outcome(folder: Path, payloads: dict[str, bytes]) -> str:
    """Open a damaged database, read each job and add one. Everything is right, or the damage is named."""
    named = False
    try:
        dispatcher = opened(folder)
    except JobsDamaged:
        return "not opened"
    with closing(dispatcher.database) as database:
        jobs = LocalJobs(dispatcher)
        there = {job_id for job_id in payloads if _is_right(jobs, job_id, payloads[job_id])}
        with suppress(JobsDamaged):
            listed = {job.id for job in jobs.list_jobs([], [], 1000, None).jobs}
            assert listed >= there
        call = dispatcher.post(lambda queue: commands.submit(queue, [request("later", delay=1.0)], "me"))
        for _ in range(4):
            dispatcher.step(0.0)
        assert call.answered.is_set()
        with suppress(EventVaultError):
            named = bool({problem.code for problem in dispatcher.status().problems} & {"jobs_damaged", "jobs_rewound"})
        named |= dispatcher.failure is not None or database.damage is not None
        assert named or (there == payloads.keys() and call.error is None)
        assert call.error is None or isinstance(call.error, EventVaultError)
    return "named" if named else "right"


def _is_right(jobs: LocalJobs, job_id: str, payload: bytes) -> bool:
    try:
        view = jobs.job(job_id)
    except EventVaultError:
        return False
    assert bytes(view.payload or b"") == payload
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "flips", [pytest.param(25, id="short"), pytest.param(share(2000), id="long", marks=pytest.mark.soak)]
)
def test_after_a_flipped_bit_each_job_is_right_or_the_damage_is_named(
    template: Path, payloads: dict[str, bytes], tmp_path: Path, flips: int
) -> None:
    chance = random.Random(series_seed())
    outcomes = []
    for number in range(flips):
        storage = tmp_path / str(number)
        copy = Path(shutil.copytree(template, storage / "jobs_db"))
        files = [path for path in copy.iterdir() if path.suffix in (".ldb", ".log") or path.name.startswith("MANIFEST")]
        kind = chance.choice(sorted({path.suffix for path in files if path.stat().st_size}))
        path = chance.choice(sorted(path for path in files if path.suffix == kind and path.stat().st_size))
        place = chance.randrange(path.stat().st_size * 8)
        print(path.name, place)
        flip(path, place)
        outcomes.append(outcome(copy, payloads))
        shutil.rmtree(storage)
    print({each: outcomes.count(each) for each in set(outcomes)})


def test_damage_that_one_read_meets_is_named_and_refuses_no_other(folder: Path, payloads: dict[str, bytes]) -> None:
    table = max(folder.glob("*.ldb"), key=lambda path: path.stat().st_size)
    flip(table, table.stat().st_size // 2 * 8)
    dispatcher = opened(folder)
    jobs = LocalJobs(dispatcher)
    add_jobs(dispatcher, 0, 10, "new")
    assert jobs.job("new-0").job.state == "pending"
    right = {job_id for job_id in payloads if _is_right(jobs, job_id, payloads[job_id])}
    damaged = min(payloads.keys() - right)
    assert len(right) > JOBS / 2
    with pytest.raises(JobsDamaged, match="checksum mismatch") as raised:
        jobs.job(damaged)
    assert "move STORAGE_DIR/jobs_db away" in raised.value.hint
    assert [problem.code for problem in dispatcher.status().problems] == ["jobs_damaged"]
    dispatcher.database.close()


class Rotten(MemoryDatabase):
    """A database in which these keys are damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.rotten: set[bytes] = set()
        self.refuses_writes = False
        self.openings = 0

    def get(self, key: bytes) -> bytes | None:
        if key in self.rotten:
            raise CORRUPT
        return super().get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(start, stop, reverse=reverse):
            if key in self.rotten:
                raise CORRUPT
            yield key, value

    def write(self, changes: object) -> None:
        if self.refuses_writes:
            raise CORRUPT
        super().write(changes)  # type: ignore[arg-type]

    def reopen(self) -> int:
        self.openings += 1
        return super().reopen()


@pytest.fixture
def world() -> World:
    world = World()
    world.database = Rotten()
    world.start()
    return world


def rot(world: World, *rotten: bytes) -> Rotten:
    database = world.database
    assert isinstance(database, Rotten)
    database.rotten |= set(rotten)
    return database


def test_damage_that_one_request_meets_refuses_that_one_alone(world: World) -> None:
    world.submit(request("a"), request("b"))
    database = rot(world, keys.record_key("a"))
    calls = [world.dispatcher.post(lambda queue, name=name: commands.cancel(queue, [name])) for name in "ab"]
    for _ in range(3):
        world.turn()
    assert isinstance(calls[0].error, JobsDamaged)
    assert calls[1].error is None
    assert calls[1].result is not None
    assert calls[1].result[0].outcome == "changed"
    assert world.submit(request("c"))
    assert database.openings == 0, "it is not opened again"
    assert [problem.code for problem in world.dispatcher.status().problems] == ["jobs_damaged"]


def test_damage_that_the_sending_meets_stops_no_submission(world: World) -> None:
    worker = world.worker("report")
    world.submit(request("a", delay=1.0))
    database = rot(world, keys.record_key("a"))
    world.clocks.pass_seconds(2)
    call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("b")], "me"))
    world.turns(4)
    assert (call.answered.is_set(), call.error) == (True, None)
    problems = {problem.code: problem.message for problem in world.dispatcher.status().problems}
    assert "000012.ldb" in problems["jobs_not_sent"]
    assert database.openings == 0
    database.rotten.clear()
    for _ in range(4):
        world.clocks.pass_seconds(60)
        world.turn()
    worker.take()
    assert [run.message.job for run in world.runs], "jobs are sent again once it can be read"


def test_once_a_merge_has_met_damage_all_is_read_and_it_is_opened_again_after_a_rest() -> None:
    world = World()
    database = world.database = Rotten()
    world.dispatcher = Dispatcher(
        database, world.wire, now=lambda: world.clocks.now, monotonic=lambda: world.clocks.moment,
        make_machine=world._make_machine, retry_seconds=0.001,
    )  # fmt: skip
    world.dispatcher.open()
    jobs = LocalJobs(world.dispatcher)
    world.submit(request("a"))
    database.refuses_writes = True
    for _ in range(20):
        call = world.dispatcher.post(lambda queue: commands.submit(queue, [request("b")], "me"))
        world.turns(2)
        assert isinstance(call.error, JobsDamaged), call.error
        assert jobs.job("a").job.state == "pending"
    assert database.openings == 0, "each opening may let a few writes pass, and meet the damage again"
    with pytest.raises(JobsDamaged):
        world.dispatcher.status()
    database.refuses_writes = False
    world.clocks.pass_seconds(1)
    assert world.submit(request("b"))
    assert database.openings == 1
    assert [problem.code for problem in world.dispatcher.status().problems] == ["jobs_damaged"]


def last_record_of_the_log(folder: Path) -> tuple[Path, int]:
    """Return the log, and a place in its last record."""
    log = max(folder.glob("*.log"))
    return log, (log.stat().st_size - 40) * 8


def test_changes_that_the_end_of_a_log_lost_are_named_and_nothing_is_sent_before_a_resume(folder: Path) -> None:
    dispatcher = opened(folder)
    add_jobs(dispatcher, JOBS, JOBS + 1)
    dispatcher.database.close()
    flip(*last_record_of_the_log(folder))
    for _ in range(2):  # until somebody accepts it
        dispatcher = opened(folder)
        dispatcher.step(0.0)
        assert f"job-{JOBS}" not in {job.id for job in LocalJobs(dispatcher).list_jobs([], [], 1000, None).jobs}
        (problem,) = dispatcher.status().problems
        assert problem.code == "jobs_rewound"
        assert "flask jobs resume" in problem.hint
        assert dispatcher.database.get(keys.META_HELD) is not None
        dispatcher.database.close()
    storage = folder.parent
    assert not (storage / data_folders.CUT_OFF).exists(), "a start of the store would take it for the events' own"
    (cut,) = (storage / data_folders.JOBS_CUT_OFF).iterdir()
    assert b"job-" in read_bytes(cut)

    dispatcher = opened(folder)
    dispatcher.step(0.0)
    dispatcher.post(lambda queue: commands.resume(queue, None))
    for _ in range(3):
        dispatcher.step(0.0)
    assert dispatcher.status().problems == []
    dispatcher.database.close()
    dispatcher = opened(folder)
    assert dispatcher.status().problems == []
    assert dispatcher.database.get(keys.META_HELD) is None
    dispatcher.database.close()


class FollowedTransport(MemoryTransport):
    """Over Kafka: the topics show later that the database is an old copy, unless that was accepted before."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[bool] = []

    def go_on(self, *, lacks_changes: bool = False) -> None:
        self.accepted.append(lacks_changes)


def test_one_resume_accepts_lost_changes_for_the_topics_too_and_a_disk_that_refuses_to_note_it_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = opened(folder)
    add_jobs(dispatcher, JOBS, JOBS + 1)
    dispatcher.database.close()
    flip(*last_record_of_the_log(folder))
    transport = FollowedTransport()
    dispatcher = Dispatcher(JobsDatabase(folder), transport, retry_seconds=0.0)
    dispatcher.open()
    dispatcher.step(0.0)

    def refuse(*_: Path) -> None:
        raise OSError(errno.EROFS, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(cut_off, "rename_durably", refuse)
        dispatcher.post(lambda queue: commands.resume(queue, None))
        for _ in range(5):
            dispatcher.step(0.0)
        assert transport.accepted == [True]
        add_jobs(dispatcher, JOBS + 1, JOBS + 2)
        (problem,) = dispatcher.status().problems
        assert problem.code == "disk_failed"
        assert "the next start would hold all jobs again" in problem.message
        assert caplog.text.count("noting that the lost changes of jobs_db are accepted failed") == 1
    dispatcher.step(0.0)
    assert dispatcher.status().problems == []
    dispatcher.database.close()
    dispatcher = opened(folder)
    assert dispatcher.status().problems == []
    dispatcher.database.close()


def test_a_torn_write_that_nobody_was_told_of_is_no_loss(folder: Path) -> None:
    dispatcher = opened(folder)
    add_jobs(dispatcher, JOBS, JOBS + 1)
    dispatcher.database.close()
    log, _ = last_record_of_the_log(folder)
    log.write_bytes(log.read_bytes()[:-30])
    dispatcher = opened(folder)
    dispatcher.step(0.0)
    assert dispatcher.status().problems == []
    dispatcher.database.close()


def test_a_reopening_after_a_failed_write_holds_nothing(folder: Path) -> None:
    dispatcher = opened(folder)
    add_jobs(dispatcher, JOBS, JOBS + 1)
    cut_off = folder.parent / data_folders.JOBS_CUT_OFF
    cut_off.mkdir()
    (cut_off / "000001-0-00000000.changed").write_bytes(b"half of a batch")  # as such a write leaves it
    dispatcher.database.reopen()
    assert not dispatcher.database.lacks_changes
    dispatcher.database.close()
    dispatcher.database.open()
    assert not dispatcher.database.lacks_changes
    dispatcher.database.close()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", "table"])
def test_a_database_that_lost_a_file_says_how_to_go_on(folder: Path, name: str) -> None:
    names = {"MANIFEST": "MANIFEST-*", "table": "*.ldb"}
    next(folder.glob(names.get(name, name))).unlink()
    for _ in range(2):
        with pytest.raises(JobsDamaged) as raised:
            opened(folder)
        assert "BACKUP_DIR/jobs" in raised.value.hint
    assert folder.exists()


@pytest.mark.slow
def test_a_dispatcher_that_follows_one_which_a_bad_sector_ended_reads_the_tables_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable_tables, "_distrusted", True)
    table = max(folder.glob("*.ldb"), key=lambda path: path.stat().st_size)
    bad = [unreadable_tables.UnreadableRange(0, 4096, "Input/output error")]
    monkeypatch.setattr(unreadable_tables, "unreadable_ranges", lambda path: (each for each in bad if path == table))
    database = JobsDatabase(folder)
    with pytest.raises(DiskFailed, match=table.name) as raised:
        database.open()
    assert "restore" not in raised.value.hint
    with database.snapshot() as snapshot:
        assert snapshot.get(keys.META_SCHEMA) == b"1", "the rest can be read"
    bad.clear()
    database.open()
    database.close()


def test_while_the_disk_refuses_to_open_the_database_jobs_can_be_read(
    folder: Path, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a disk that is full, or can only be read, at a start."""
    error = plyvel.IOError(f"IO error: {folder}/000009.log: No space left on device".encode())

    def refuse(*_: object, **__: object) -> None:
        raise error

    dispatcher = Dispatcher(JobsDatabase(folder), MemoryTransport(), retry_seconds=0.0)
    jobs = LocalJobs(dispatcher)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "_open_examined", refuse)
        for _ in range(2):
            with pytest.raises(NoSpace):
                dispatcher.open()
            assert all(_is_right(jobs, job_id, payload) for job_id, payload in payloads.items())
            assert jobs.types() == []
            for change in (
                lambda: jobs.submit([request("a")], "me", ["write"]),
                lambda: jobs.cancel(["job-1"]),
                lambda: jobs.pause(None),
                lambda: jobs.delete_schedule("a"),
                jobs.status,
            ):
                with pytest.raises(NoSpace, match="No space left"):
                    change()
    dispatcher.open()
    add_jobs(dispatcher, JOBS, JOBS + 1)
    assert jobs.job(f"job-{JOBS}").job.state == "pending"
    assert dispatcher.database._view.folder is None
    dispatcher.database.close()

"""Makes the archives and databases of tests of backup and restore, and reads the results."""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import orjson
import plyvel
import pytest

from eventvault import clock, data_folders, small_files
from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.seal import seal_root
from eventvault.database.generation import StoreIdentity, first_identity
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.store.ports.store import Store
from eventvault.store.service import StoreService
from tests import format_2, processes

LONG_AGO = "2024-12-27T12:00:00.123Z"


def drafts(count: int, prefix: str = "live", **attributes: Any) -> list[EventDraft]:
    return [event.draft({"type": "t", "id": f"{prefix}-{n}", **attributes}, clock.now()) for n in range(count)]


def ids(store: Store) -> list[str]:
    """The ids of all events."""
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = store.scan(ScanQuery(after=after, limit=1000))
        found += [orjson.loads(value)["id"] for value in page.events]
        after = page.next
    return found


def set_clock_back(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Set the clock back for the services of this process and their chores, as after a boot with an empty battery."""
    monkeypatch.setattr(clock, "_now", lambda: clock.system_now() - int(days * 86_400_000_000))


def put(service: StoreService, count: int, prefix: str) -> None:
    """Append, and write a segment of the journal with it."""
    service.append(drafts(count, prefix, subject=f"of {prefix}"))
    assert service.journal.flush()


def live(service: StoreService) -> list[bytes]:
    return service.scan(ScanQuery(limit=1000)).events


def generation(service: StoreService) -> str:
    found: str = service.status()["store"]["generation"]
    return found


def prefixes(store: Store) -> dict[str, int]:
    """The number of events by the prefix passed to `drafts`."""
    found: dict[str, int] = {}
    for name in ids(store):
        prefix = name.rpartition("-")[0]
        found[prefix] = found.get(prefix, 0) + 1
    return found


def make_database(folder: Path, prefix: str = "restored", events: int = 3, **attributes: Any) -> Any:
    """Make a closed database of ours; returns its identity. attributes: further ones of each event."""
    identity = create_database(folder, first_identity(clock.now()))
    with closing(open_leveldb(folder)) as db:
        EventRegistry(db, folder).append([AppendBatch(drafts(events, prefix, **attributes), b"12345678")])
    return identity


def make_archive(
    path: Path,
    prefix: str = "restored",
    events: int = 3,
    *,
    created: str = LONG_AGO,
    label: str | None = None,
    **attributes: Any,
) -> Path:
    """Make an archive of ours from another installation."""
    folder = path.parent / f".{path.name}.database"
    identity = make_database(folder, prefix, events, **attributes)
    times = times_of(folder)
    (folder / "EVENTVAULT").unlink()
    (folder / "LOCK").unlink()
    (folder / "LOG").unlink()
    (folder / "LOG.old").unlink(missing_ok=True)
    about = Manifest(
        store_id=identity.store_id, installation="elsewhere", generation=identity.present,
        generations=list(identity.generations), first_sequence=1, last_sequence=events,
        first_time=times[0], last_time=times[1],
        events=events, label=label, name=path.name, created=created,
    )  # fmt: skip
    format_2.write_archive(path, folder, about)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return path


def times_of(folder: Path) -> tuple[str, str]:
    """`recordedtime` of the first and the last event of a closed database, as text."""
    with closing(open_leveldb(folder)) as db:
        registry = EventRegistry(db, folder)
        first, last = (event.recorded_of(registry.at(sequence)) for sequence in (1, registry.last_sequence))
    return clock.format_microseconds(first), clock.format_microseconds(last)


def make_foreign_database(folder: Path, records: int = 3, prefix: str = "foreign") -> Path:
    """Make a closed LevelDB of another program, with JSON records."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with closing(plyvel.DB(str(folder), create_if_missing=True)) as db:
        for number in range(records):
            db.put(b"event:%d" % number, orjson.dumps({"id": f"{prefix}-{number}", "type": "t", "data": {"n": number}}))
    return folder


def make_foreign_archive(path: Path, records: int = 3, prefix: str = "foreign") -> Path:
    """Make an archive of a foreign LevelDB, as `tar czf` does."""
    folder = make_foreign_database(path.parent / f".{path.name}.leveldb", records, prefix)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="event_registry_db")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return path


def make_text_archive(path: Path) -> Path:
    """Make a tar.gz that holds text files and no database."""
    with tarfile.open(path, "w:gz") as archive:
        for name in ("README.md", "notes/today.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"hello"))
    return path


def append_random(store: Store, count: int, start: int = 0) -> None:
    """Append events with the ids `start` and on, whose data does not compress."""
    store.append(
        [
            event.draft({"type": "t", "id": str(number), "data": os.urandom(200).hex()}, clock.now())
            for number in range(start, start + count)
        ]
    )


def flip(path: Path, position: int) -> None:
    """Flip one bit. position: negative counts from the end."""
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def bytes_of(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, bytes]:
    """The content of every file beneath `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leave_out
    }


def problem_codes(store: Store) -> list[str]:
    return [problem["code"] for problem in store.status()["problems"]]


def accept_incomplete_recovery(service: StoreService) -> None:
    """Accept what a recovery lacks, and wait until it is done."""
    assert "recovery_incomplete" in problem_codes(service)
    service.accept_problem("recovery_incomplete")
    processes.wait_until(lambda: service.state == "serving", "the accepted recovery is not done")


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A small file on a disk that fails."""
    read_bytes = small_files.read_bytes

    def read(asked: Path) -> bytes:
        if asked == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(asked))
        return read_bytes(asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_files, "read_bytes", read)
        yield


def put_in_the_way(folder: Path) -> None:
    """Put a file in place of a folder, although the journal of a running service may recreate the folder meanwhile."""
    for attempt in itertools.count():
        with suppress(FileNotFoundError):
            folder.rename(folder.with_name(f"deleted-{attempt}"))
        with suppress(IsADirectoryError, FileExistsError), folder.open("x") as file:
            file.write("in the way")
            return


def leftovers(*folders: Path, expected: Sequence[str] = ()) -> list[str]:
    """Temporary files and folders that stay; a service that runs may be writing one just now.

    Waits until there are those that are expected, and none else.
    """
    with suppress(TimeoutError):
        processes.wait_until(lambda: temporary_files(*folders) == list(expected), "something is left")
    return temporary_files(*folders)


def copies_for_readers(storage: Path) -> list[str]:
    """The private databases of moments that are read."""
    return sorted(path.name for path in storage.glob(f"{data_folders.PAST_PREFIX}*"))


def temporary_files(*folders: Path) -> list[str]:
    prefixes = (".restoring-", ".checkpoint-", ".past-", ".event_registry_db.")
    return [
        str(path)
        for folder in folders
        for path in folder.iterdir()
        if path.name.startswith(prefixes) or path.name.endswith(".tmp")
    ]


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """Open a database that nobody has open, with plyvel alone."""
    with closing(plyvel.DB(str(folder), create_if_missing=False)) as db:
        yield db


@contextmanager
def waiting_chore(service: StoreService) -> Iterator[threading.Event]:
    """Make the next chore wait; the event is set once it is reached."""
    reached, go_on = threading.Event(), threading.Event()
    run = service.chores.run

    def slow(name: str, **arguments: Any) -> dict[str, Any]:
        reached.set()
        assert go_on.wait(60)
        return run(name, **arguments)

    service.chores.run = slow  # type: ignore[method-assign]
    yield reached
    service.chores.run = run  # type: ignore[method-assign]
    go_on.set()


def written_archives(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The answers of the chores that will write archives."""
    answers: list[dict[str, Any]] = []
    run = service.chores.run

    def noting(name: str, **arguments: Any) -> dict[str, Any]:
        answer = run(name, **arguments)
        if name == "write_archive":
            answers.append(answer)
        return answer

    monkeypatch.setattr(service.chores, "run", noting)
    return answers


def forge_archive(
    like: Path, path: Path, events: int, *, key: bytes = b"not the key of the installation!", **changes: Any
) -> Path:
    """Make an archive that claims to be of the installation, registry and generation of `like`, with other events."""
    about = reader.read_manifest(like)
    folder = path.with_name(f".{path.name}.forged")
    create_database(folder, StoreIdentity(about.store_id, about.generation.id, tuple(about.generations)))
    with closing(open_leveldb(folder)) as db:
        registry = EventRegistry(db, folder)
        registry.append([AppendBatch(drafts(events, "forged"), b"12345678")])
        times = [clock.format_microseconds(event.recorded_of(registry.at(sequence))) for sequence in (1, events)]
    for name in ("EVENTVAULT", "LOCK", "LOG", "LOG.old"):
        (folder / name).unlink(missing_ok=True)
    claims = {"name": path.name, "events": events, "last_sequence": events, "created": LONG_AGO}
    claims |= {"first_time": times[0], "last_time": times[1], **changes}
    about = msgspec.structs.replace(about, files=[], **claims)
    format_2.write_archive(path, folder, about, seal=partial(seal_root, key))
    shutil.rmtree(folder)
    return path

"""An import: what is in, what is rejected, and how it goes on after an interruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import ImportRunning, InvalidInput, NoSpace, OutputExists, RestoreRunning
from eventvault.events.event import EventDraft
from eventvault.imports import importer as importer_module
from eventvault.imports.importer import Imported, Importer, digest_of
from eventvault.imports.notes import Notes
from eventvault.imports.reading import Form, read_records
from eventvault.imports.record import ImportRecord
from eventvault.imports.rejects import Rejected, RejectsFile
from eventvault.imports.source import ImportSource
from eventvault.store.memory.store import MemoryStore


class Content:
    """A file in memory, as `eventvault.imports.importer.Input` has it."""

    def __init__(self, content: bytes, name: str = "n", form: Form | None = None, *, rewindable: bool = True) -> None:
        self._content = content
        self._form = form or Form()
        self._source = ImportSource(io.BytesIO(b""))
        self.name = name
        self.rewindable = rewindable
        self.form = digest_of(self._form)
        self.readings = 0

    def records(self) -> Iterator[ImportRecord]:
        self.readings += 1
        assert self.rewindable or self.readings == 1
        self._source = ImportSource(io.BytesIO(self._content))
        return read_records(self._source, self._form, 10_000)

    def broken(self) -> str | None:
        return self._source.broken


class Failing:
    """A store whose append fails once it has stored so many batches; before or after it has stored the last one."""

    def __init__(self, store: MemoryStore, batches: int, error: BaseException, *, stored: bool) -> None:
        self._store = store
        self._batches = batches
        self._error = error
        self._stored = stored

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        self._batches -= 1
        if self._batches < 0:
            if self._stored:
                self._store.append(drafts)
            raise self._error
        return self._store.append(drafts)

    def scan(self, query: ScanQuery) -> Page:
        return self._store.scan(query)


Run = Callable[..., Imported]


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    (tmp_path / "backups").mkdir()
    return MemoryStore(tmp_path / "backups")


@pytest.fixture
def run(store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Import a content. Each batch has ten records and is noted."""
    monkeypatch.setattr(importer_module, "BATCH_RECORDS", 10)
    monkeypatch.setattr(importer_module, "NOTE_SECONDS", 0.0)

    def one_run(content: Content | bytes, rejects: Path | None = None, present: object = None) -> Imported:
        source = Content(content) if isinstance(content, bytes) else content
        notes = Notes(tmp_path / "imports")
        return Importer(present or store, notes, source, rejects, lambda _: None).run()  # type: ignore[arg-type]

    return one_run


def lines(count: int, *, first: int = 1, ids: bool = False) -> bytes:
    return b"".join(
        orjson.dumps({"type": "a", "data": number, **({"id": f"e{number}"} if ids else {})}) + b"\n"
        for number in range(first, first + count)
    )


def data(store: MemoryStore) -> list[int]:
    return [orjson.loads(value)["data"] for value in store.scan(ScanQuery(limit=1000)).events]


def test_all_events_are_in_in_their_order(run: Run, store: MemoryStore) -> None:
    done = run(lines(95))
    assert (done.new, done.already, done.rejected, done.resumed) == (95, 0, 0, 0)
    assert data(store) == list(range(1, 96))


def test_two_equal_lines_without_an_id_are_two_events(run: Run, store: MemoryStore) -> None:
    assert run(b'{"type":"a","data":1}\n' * 3).new == 3
    assert data(store) == [1, 1, 1]


def test_the_same_import_again_stores_nothing_twice(run: Run, store: MemoryStore) -> None:
    run(lines(30))
    done = run(lines(30))
    assert (done.new, done.already, done.resumed) == (0, 30, 30)
    assert len(data(store)) == 30


def test_a_file_that_has_grown_is_imported_from_where_it_ended(run: Run, store: MemoryStore) -> None:
    run(lines(30))
    done = run(lines(45))
    assert (done.new, done.already, done.resumed) == (15, 30, 30)
    assert data(store) == list(range(1, 46))


@pytest.mark.parametrize("ids", [True, False])
def test_a_file_that_was_changed_in_front_of_the_note_is_imported_anew(run: Run, store: MemoryStore, ids: bool) -> None:
    run(lines(30, ids=ids))
    changed = lines(30, ids=ids).replace(b'"data":7', b'"data":70')
    done = run(changed)
    assert done.resumed == 0
    assert done.already == 29
    assert (done.rejected, done.new) == ((1, 0) if ids else (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("batches", range(5))
@pytest.mark.parametrize("error", [NoSpace("full"), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_an_import_that_was_interrupted_goes_on_and_each_event_is_in_once(
    run: Run, store: MemoryStore, tmp_path: Path, batches: int, stored: bool, error: BaseException
) -> None:
    rejects = tmp_path / "rejects.ndjson"
    content = lines(20) + b"{\n" + lines(20, first=21) + b"[]\n" + lines(5, first=41)
    with pytest.raises(type(error)):
        run(content, rejects, Failing(store, batches, error, stored=stored))
    done = run(content, rejects)
    assert done.resumed == 10 * batches
    assert done.new + done.already == 45
    assert data(store) == list(range(1, 46))
    assert [orjson.loads(line)["line"] for line in rejects.read_bytes().splitlines()] == [21, 42]
    assert done.rejected == 2


@pytest.mark.slow
def test_after_a_restore_the_import_begins_anew(run: Run, store: MemoryStore) -> None:
    name = store.create_backup().backup.name
    run(lines(30))
    store.restore(name)
    assert data(store) == []
    done = run(lines(30))
    assert (done.new, done.resumed) == (30, 0)
    assert data(store) == list(range(1, 31))


def test_a_restore_in_between_ends_the_import_and_the_next_one_begins_anew(run: Run, store: MemoryStore) -> None:
    name = store.create_backup().backup.name

    class Restored(Failing):
        def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
            result = store.append(drafts)
            self._batches -= 1
            if self._batches == 0:
                store.restore(name)
            return result

    with pytest.raises(RestoreRunning):
        run(lines(50), None, Restored(store, 3, KeyError(), stored=False))
    done = run(lines(50))
    assert (done.resumed, done.new + done.already) == (0, 50)
    assert sorted(data(store)) == list(range(1, 51))


def test_an_event_that_differs_from_the_one_that_is_there_is_rejected(
    run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    run(b'{"type":"a","id":"x","data":1}\n')
    rejects = tmp_path / "rejects"
    done = run(Content(b'{"type":"a","id":"y","data":2}\n{"type":"a","id":"x","data":3}\n', "other"), rejects)
    assert (done.new, done.already, done.rejected) == (1, 0, 1)
    assert data(store) == [1, 2]
    line = orjson.loads(rejects.read_bytes())
    assert (line["line"], line["code"], line["text"]) == (2, "event_differs", '{"type":"a","id":"x","data":3}')


def test_rejects_are_written_with_their_lines_codes_reasons_and_texts(run: Run, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    long = b'{"type":"' + b"x" * 10_000 + b'"}'
    done = run(b'{"type":"a"}\n{"type":1}\r\n{"a\n\xff\xfe\n' + long + b'\n{"type":"b"}\n', rejects)
    assert (done.new, done.rejected) == (2, 4)
    first, second, third, fourth = map(orjson.loads, rejects.read_bytes().splitlines())
    assert (first["line"], first["code"], first["text"]) == (2, "invalid", '{"type":1}')
    assert first["error"].startswith("type: ")
    assert (second["line"], second["code"], second["text"]) == (3, "malformed", '{"a')
    assert (third["line"], third["base64"]) == (4, "//4=")
    assert (fourth["line"], fourth["code"], fourth["cut"], len(fourth["text"])) == (5, "too_large", True, 1000)
    assert [(kind.line, kind.count) for kind in done.kinds] == [(2, 1), (3, 1), (4, 1), (5, 1)]


def test_rejects_of_a_kind_are_counted_together(run: Run) -> None:
    done = run(b'{"type":"a"}\n' + b"{\n" * 12 + b'{"id":"1"}\n' * 3)
    assert [(kind.line, kind.code, kind.count) for kind in done.kinds] == [(2, "malformed", 12), (14, "invalid", 3)]


def test_a_file_of_rejects_that_is_there_is_not_overwritten(run: Run, store: MemoryStore, tmp_path: Path) -> None:
    rejects = tmp_path / "mine"
    rejects.write_text("precious")
    with pytest.raises(OutputExists):
        run(lines(3), rejects)
    assert rejects.read_text() == "precious"
    assert data(store) == []


def test_a_file_of_rejects_that_was_corrected_in_place_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    content = b"{\n" + lines(5)
    run(content, rejects)
    for changed in (rejects.read_bytes() + b"more\n", rejects.read_bytes().replace(b"{", b"[")):
        rejects.write_bytes(changed)
        with pytest.raises(OutputExists, match="was changed"):
            run(content, rejects)
        with pytest.raises(OutputExists, match="was changed"):
            run(b"{\n" + content, rejects)
        assert rejects.read_bytes() == changed


def test_a_full_disk_for_rejects_ends_the_import_and_names_the_file(
    run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects"
    rejects.symlink_to("/dev/full")
    with pytest.raises(OSError, match="is a link"):
        run(b"{\n", rejects)
    file = RejectsFile(rejects, Path("/dev/full").open("r+b", buffering=0))  # noqa: SIM115
    with pytest.raises(NoSpace, match=r"writing .*rejects failed"):
        file.write([Rejected(ImportRecord(1, 1, b"{\n", b""), "malformed", "no JSON")])
    file.close()
    assert data(store) == []


def test_rejects_that_are_wanted_only_later_have_all_lines_read_again(run: Run, tmp_path: Path) -> None:
    content = lines(5) + b"{\n" + lines(5, first=6)
    run(content)
    rejects = tmp_path / "rejects"
    done = run(content, rejects)
    assert (done.resumed, done.already, done.rejected) == (0, 10, 1)
    assert len(rejects.read_bytes().splitlines()) == 1
    assert run(content, rejects).resumed > 0
    assert len(rejects.read_bytes().splitlines()) == 1


def test_a_lost_file_of_rejects_has_all_lines_read_again(run: Run, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    run(b"{\n" + lines(5), rejects)
    rejects.unlink()
    assert run(b"{\n" + lines(5), rejects).resumed == 0
    assert len(rejects.read_bytes().splitlines()) == 1


def test_another_form_of_the_same_file_begins_anew(run: Run) -> None:
    run(Content(lines(20)))
    assert run(Content(lines(20), form=Form(kind="cloudevents"))).resumed == 0


@pytest.mark.parametrize("rewindable", [True, False])
def test_a_pipe_that_is_another_one_is_refused_once_and_then_begins_anew(
    run: Run, store: MemoryStore, rewindable: bool
) -> None:
    run(Content(lines(20), rewindable=rewindable))
    other = lines(5) + lines(20, first=100)
    if not rewindable:
        with pytest.raises(InvalidInput, match="nothing was imported"):
            run(Content(other, rewindable=False))
        assert len(data(store)) == 20
    assert run(Content(other, rewindable=rewindable)).new == 20
    assert len(data(store)) == 40


@pytest.mark.slow
def test_a_file_that_breaks_off_is_imported_up_to_there_and_goes_on_once_it_is_whole(
    run: Run, store: MemoryStore, tmp_path: Path
) -> None:
    import gzip

    whole = gzip.compress(lines(2000, ids=True), mtime=0)
    rejects = tmp_path / "rejects"
    done = run(Content(whole[: len(whole) // 2]), rejects)
    assert done.broken is not None
    assert 0 < done.new < 2000
    assert done.rejected <= 1
    again = run(Content(whole), rejects)
    assert (again.broken, again.new + again.already, again.rejected) == (None, 2000, 0)
    assert again.resumed == done.new
    assert rejects.read_bytes() == b""
    assert store.scan(ScanQuery(limit=1)).last_sequence == 2000


def test_two_imports_of_one_name_at_once_are_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventvault.imports.notes._LOCK_SECONDS", 0.05)
    with Notes(tmp_path / "imports").running("n"):
        with pytest.raises(ImportRunning):
            run(lines(3))
        assert run(Content(lines(3), "other")).new == 3
    assert run(lines(3)).new == 3


def test_a_damaged_note_counts_as_missing(run: Run, tmp_path: Path) -> None:
    run(lines(30))
    (note,) = (tmp_path / "imports").glob("*.json")
    note.write_bytes(note.read_bytes().replace(b'"position": 30', b'"position": 29'))
    done = run(lines(30))
    assert (done.new, done.already, done.resumed) == (0, 30, 0)


def test_an_empty_file_has_no_event(run: Run) -> None:
    done = run(b"")
    assert (done.new, done.rejected, done.broken) == (0, 0, None)

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from eventvault.audit import chain as chains
from eventvault.audit.chain import Chain
from eventvault.errors import BackupsChanged, NoSpace, TooBusy
from tests.eventvault.audit.audits import Audit, entry
from tests.processes import wait_until


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path)


def test_each_line_has_the_digest_of_the_line_before(audit: Audit) -> None:
    audit.fill("2026-01", "2026-02")
    digest = "0" * 64
    for number, (raw, line) in enumerate(zip(audit.raw(), audit.lines(), strict=True), 1):
        assert (line.line, line.previous) == (number, digest)
        digest = hashlib.sha256(raw).hexdigest()


def test_each_month_has_its_file_and_a_clock_that_is_set_back_begins_no_earlier_one(audit: Audit) -> None:
    audit.fill("2026-11", "2026-12", "2027-01", "2026-12")
    names = [path.name for path in chains.files_of(audit.folder)]
    assert names == ["audit-2026-11.jsonl", "audit-2026-12.jsonl", "audit-2027-01.jsonl"]
    assert [line.line for line in audit.lines()] == list(range(1, 17))
    assert audit.verify().bad is None


def test_only_the_owner_may_read_the_files(audit: Audit) -> None:
    before = os.umask(0o027)
    try:
        audit.fill("2026-01")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (*audit.folder.iterdir(), audit.note)} == {0o600}


def test_another_process_goes_on_where_the_first_one_ended(audit: Audit) -> None:
    audit.fill("2026-01", each=1)
    for number in range(1, 6):
        audit.anew().append([entry(number)])
    assert len(audit.lines()) == 6
    assert audit.verify().bad is None
    assert audit.about_audit() == []


def test_after_a_kill_before_the_note_the_files_count(audit: Audit) -> None:
    audit.fill("2026-01")
    note = audit.note.read_bytes()
    audit.chain.append([entry(4), entry(5, "2026-02")])
    audit.note.write_bytes(note)
    assert audit.verify().bad is None
    audit.anew().append([entry(6, "2026-02")])
    assert [line.line for line in audit.lines()] == list(range(1, 8))
    assert audit.about_audit() == []
    assert audit.verify().bad is None


def test_an_old_copy_of_storage_changes_nothing(audit: Audit) -> None:
    audit.fill("2026-01")
    note = audit.note.read_bytes()
    audit.fill("2026-02", "2026-03")
    audit.note.write_bytes(note)
    audit.anew().append([entry(20, "2026-03")])
    assert audit.verify() == audit.verify().__class__(lines=13, files=3, noted=13, waiting=0)


def test_a_line_says_so_where_the_note_is_gone(audit: Audit) -> None:
    audit.fill("2026-01")
    audit.note.unlink()
    assert audit.verify().noted is None
    audit.anew().append([entry(4)])
    assert audit.about_audit() == [{"noteLost": {"line": 4}}]
    assert audit.verify().bad is None


def test_a_damaged_note_is_as_none(audit: Audit) -> None:
    audit.fill("2026-01")
    audit.note.write_bytes(b"damaged")
    audit.anew().append([entry(4)])
    assert audit.about_audit() == [{"noteLost": {"line": 4}}]
    assert audit.note.with_name("audit.json.damaged").exists()


@pytest.mark.parametrize("count", [1, 30, 100])
def test_a_torn_last_line_is_completed_and_named(audit: Audit, count: int) -> None:
    audit.fill("2026-01")
    path = audit.folder / "audit-2026-01.jsonl"
    torn = audit.raw()[-1][:count]
    path.write_bytes(path.read_bytes() + torn)
    verified = audit.verify()
    assert (verified.bad, verified.torn) == (None, True)
    audit.anew().append([entry(4, "2026-02")])
    assert audit.raw()[4] == torn + b"\n"
    assert audit.about_audit() == [{"torn": {"line": 5, "bytes": count}}]
    verified = audit.verify()
    assert (verified.bad, verified.torn, verified.lines) == (None, False, 7)


def test_a_torn_first_line_is_completed_and_named(audit: Audit) -> None:
    audit.folder.mkdir()
    (audit.folder / "audit-2026-01.jsonl").write_bytes(b'{"line":1,')
    audit.chain.append([entry(1)])
    assert audit.about_audit() == [{"torn": {"line": 1, "bytes": 10}}]
    assert audit.verify().bad is None


def test_a_file_that_was_made_and_not_written_is_no_break(audit: Audit) -> None:
    audit.fill("2026-01")
    (audit.folder / "audit-2026-02.jsonl").touch()
    audit.anew().append([entry(4, "2026-02")])
    audit.note.unlink()
    (audit.folder / "audit-2026-03.jsonl").touch()
    audit.anew().append([entry(5, "2026-03")])
    assert [line.line for line in audit.lines()] == list(range(1, 8))
    assert audit.verify().bad is None


@pytest.mark.parametrize("rest", range(4))
def test_a_cut_tail_shows_also_after_further_lines(audit: Audit, rest: int) -> None:
    audit.fill("2026-01")
    audit.replace(audit.raw()[:rest])
    missing = f"lines {rest + 1} to 4 are" if rest < 3 else "line 4 is"
    assert missing in (audit.verify().bad or "")
    audit.anew().append([entry(4)])
    assert missing in (audit.verify().bad or "")
    assert audit.about_audit()[0]["broken"]["expected"]["lines"] == 4  # type: ignore[index]
    audit.anew().append([entry(5)])
    assert missing in (audit.verify().bad or "")
    assert audit.lines()[-1].line == 7


def test_a_chain_that_was_written_anew_shows_also_after_further_lines(audit: Audit, tmp_path: Path) -> None:
    audit.fill("2026-01")
    forged = tmp_path / "forged"
    forged.mkdir()
    other = Audit(forged)
    other.chain.append([entry(number, who="somebody else") for number in range(6)])
    audit.replace(other.raw())
    assert "line 4" in (audit.verify().bad or "")
    audit.anew().append([entry(6)])
    assert "a line up to line 4 was changed" in (audit.verify().bad or "")


def test_a_removed_folder_shows(audit: Audit) -> None:
    audit.fill("2026-01")
    for path in audit.folder.iterdir():
        path.unlink()
    audit.folder.rmdir()
    assert "lines 1 to 4 are" in (audit.verify().bad or "")
    audit.anew().append([entry(4)])
    assert "lines 1 to 4 are" in (audit.verify().bad or "")


def test_a_missing_backup_dir_is_not_made(audit: Audit) -> None:
    audit.backups.rmdir()
    with pytest.raises(FileNotFoundError):
        audit.chain.append([entry(1)])
    assert not audit.backups.exists()


def test_nothing_is_written_to_another_backup_dir(audit: Audit) -> None:
    def refuse() -> None:
        raise BackupsChanged("another folder")

    with pytest.raises(BackupsChanged):
        Chain(audit.storage, audit.backups, refuse).append([entry(1)])
    assert not audit.folder.exists()


def test_what_a_full_disk_took_of_a_line_is_cut_off_again(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    audit.fill("2026-01")
    before = audit.raw()

    def half(handle: int, content: bytes, offset: int) -> None:
        os.pwrite(handle, content[: len(content) // 2], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(chains, "write_at", half)
        with pytest.raises(NoSpace):
            audit.chain.append([entry(4)])
    assert audit.raw() == before
    audit.chain.append([entry(4)])
    assert audit.verify().bad is None
    assert audit.about_audit() == []


def test_entries_that_are_there_already_are_passed_over(audit: Audit) -> None:
    audit.fill("2026-01", each=2)
    audit.chain.append([entry(number) for number in range(4)], may_be_there=True)
    audit.anew().append([entry(number) for number in range(5)], may_be_there=True)
    assert [line.operation for line in audit.lines()] == [f"{number:016x}" for number in range(5)]


def test_two_services_with_one_backup_dir_write_one_chain(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    audit.fill("2026-01")
    chain = [Chain(audit.storage, audit.backups), Chain(other, audit.backups)]

    def append(number: int, place: int) -> bool:
        try:
            chain[number].append([entry(100 * (number + 1) + place)])
        except TooBusy:  # the other one kept the lock on a slow disk, and may be asked again
            return False
        return True

    def write(number: int) -> None:
        for place in range(10):
            wait_until(partial(append, number, place), "the other service keeps the lock")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert audit.verify().bad is None
    assert len([line for line in audit.lines() if line.action == "pin"]) == 24


@pytest.mark.slow
def test_the_end_of_a_long_file_is_found_from_the_note_and_without_it(audit: Audit) -> None:
    audit.chain.append([entry(number) for number in range(3000)])
    audit.anew().append([entry(3000)])
    audit.note.unlink()
    audit.anew().append([entry(3001)])
    assert audit.lines()[-1].line == 3003
    assert audit.verify().bad is None

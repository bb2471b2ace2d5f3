"""What every Backups promises."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.backups.entry import Pin
from eventvault.errors import ArchiveError, BackupExists, BackupNotFound, BackupProtected, InvalidInput
from eventvault.store.ports.store import Store
from tests.contract.events import drafts, unique

pytestmark = pytest.mark.slow


def test_the_plan_of_a_deletion_says_what_protects_an_archive_and_deletes_nothing(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    only = empty_store.create_backup().backup
    plan = empty_store.plan_deletion(only.name)
    assert (plan["protectedBy"], plan["goodLeft"]) == ("last-good", 0)
    assert plan["freesBytes"] == only.size
    other = empty_store.create_backup("other").backup.name
    assert (empty_store.plan_deletion(other)["protectedBy"], empty_store.plan_deletion(other)["goodLeft"]) == (None, 1)
    assert empty_store.plan_deletion(other)["lost"] == []
    empty_store.pin_backup(other, pinned=True)
    assert empty_store.plan_deletion(other)["protectedBy"] == "pinned"
    assert {entry.name for entry in empty_store.list_backups()} == {only.name, other}
    with pytest.raises(BackupNotFound):
        empty_store.plan_deletion("backup_2000-01-01_000000.tar.gz")


def test_the_list_is_read_in_pages(empty_store: Store) -> None:
    made = [empty_store.create_backup(f"n{number}").backup.name for number in range(4)][::-1]

    def page(limit: int | None, before: str | None = None) -> list[str]:
        return [entry.name for entry in empty_store.list_backups(limit=limit, before=before)]

    assert (page(None), page(3), page(2, made[1]), page(None, made[2])) == (made, made[:3], made[2:], made[3:])
    assert page(5, made[-1]) == []
    with pytest.raises(InvalidInput) as unknown:
        page(2, "backup_2000-01-01_000000.tar.gz")
    assert list(unknown.value.details["fields"]) == ["before"]
    assert empty_store.backup_entry(made[1]) == empty_store.list_backups()[1]
    with pytest.raises(BackupNotFound):
        empty_store.backup_entry("backup_2000-01-01_000000.tar.gz")


def test_a_backup_is_listed_and_can_be_read(store: Store) -> None:
    last = store.append(drafts(unique("a"), unique("b"))).last_sequence

    made = store.create_backup("before lunch").backup

    assert (made.events, made.sequence, made.label, made.origin) == (last, last, "before lunch", "created")
    assert store.list_backups()[0].name == made.name
    assert Path(store.backup_path(made.name)).stat().st_size == made.size
    assert store.backup_manifest(made.name)["label"] == "before lunch"


def test_a_good_backup_verifies_and_a_damaged_one_is_refused_and_marked(store: Store) -> None:
    store.append(drafts(unique("a")))
    made = store.create_backup().backup

    assert made.checked == "digests"
    for records, checked in ((True, "records"), (False, "digests")):
        verified = store.verify_backup(made.name, records=records)
        assert (verified.problem, verified.checked) == (None, checked)
        assert verified.sha256 == hashlib.sha256(Path(made.path).read_bytes()).hexdigest()
    with Path(made.path).open("r+b") as file:
        file.seek(made.size // 2)
        file.write(b"damage")
    with pytest.raises(ArchiveError):
        store.verify_backup(made.name)
    (marked,) = [entry for entry in store.list_backups() if entry.name == made.name]
    assert marked.problem
    assert (marked.verified, marked.checked) == (None, None)


def test_a_backup_that_is_not_there_is_not_found(store: Store) -> None:
    for call in (store.backup_manifest, store.backup_path, store.verify_backup, store.delete_backup):
        with pytest.raises(BackupNotFound):
            call("backup_2024-12-27_120000.tar.gz")
    with pytest.raises(BackupNotFound):
        store.pin_backup("backup_2024-12-27_120000.tar.gz", pinned=True)


def test_a_new_key_leaves_the_backups_proven(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    made = empty_store.create_backup().backup

    assert empty_store.renew_key() == 1

    assert empty_store.list_backups() == [made]
    assert made.origin_proven


def test_the_last_good_backup_is_deleted_only_by_force(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    older, newer = empty_store.create_backup("one").backup.name, empty_store.create_backup("two").backup.name

    empty_store.delete_backup(older)
    with pytest.raises(BackupProtected):
        empty_store.delete_backup(newer)
    empty_store.delete_backup(newer, force=True)

    assert empty_store.list_backups() == []


def test_a_pinned_backup_is_protected_until_it_is_unpinned(store: Store) -> None:
    store.append(drafts(unique("a")))
    name = store.create_backup("one").backup.name
    store.create_backup("two")

    assert store.pin_backup(name, pinned=True).pinned
    with pytest.raises(BackupProtected):
        store.delete_backup(name)
    store.pin_backup(name, pinned=False)
    store.delete_backup(name)


def test_a_pin_has_a_reason_and_an_end_and_the_next_one_replaces_it(store: Store) -> None:
    store.append(drafts(unique("a")))
    name, until = store.create_backup("one").backup.name, clock.YEAR_10000 - 1

    pinned = store.pin_backup(name, pinned=True, reason="audit 2026", until=until)

    assert pinned.pin == Pin("audit 2026", until)
    (listed,) = [entry for entry in store.list_backups() if entry.name == name]
    assert (listed.pinned, listed.pin) == (True, Pin("audit 2026", until))
    assert store.pin_backup(name, pinned=True).pin == Pin()
    assert store.pin_backup(name, pinned=False).pin is None


def test_a_pin_that_would_be_over_is_refused(store: Store) -> None:
    store.append(drafts(unique("a")))
    name = store.create_backup("one").backup.name

    with pytest.raises(InvalidInput) as caught:
        store.pin_backup(name, pinned=True, until=clock.parse("2026-01-01T00:00:00Z"))

    assert "until" in caught.value.details["fields"]
    (listed,) = [entry for entry in store.list_backups() if entry.name == name]
    assert not listed.pinned


def test_an_upload_is_entered_under_its_name_once(store: Store) -> None:
    last, name = store.append(drafts(unique("a"))).last_sequence, f"{unique('from-elsewhere')}.tar.gz"
    made = Path(store.create_backup().backup.path)
    copy = made.with_name(".upload-1.tmp")
    shutil.copyfile(made, copy)

    entry = store.adopt_upload(str(copy), name)

    assert (entry.name, entry.origin, entry.events) == (name, "uploaded", last)
    assert not copy.exists()
    assert store.adopt_upload(str(copy), name) == entry, "the reply may have been lost"
    shutil.copyfile(made, copy)
    with pytest.raises(BackupExists):
        store.adopt_upload(str(copy), name)

"""Annotations: pins with reason and end, beside a catalogue that names the pins too. The loss of either loses none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import data_folders, small_files
from eventvault.backups import catalogue_file
from eventvault.backups.annotations import Annotations
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry, Pin
from eventvault.errors import BackupsUnavailable, NoSpace
from tests.eventvault.archive_folder import Folder
from tests.failing_calls import FailingCalls

AUDIT = Pin("audit 2026", 99)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "backups")
    made.put("a.tar.gz")
    made.put("b.tar.gz")
    return made


def pin(catalogue: Catalogue, name: str = "a.tar.gz", with_: Pin = AUDIT) -> BackupEntry:
    return catalogue.set_pinned(name, pinned=True, reason=with_.reason, until=with_.until)


def pins(catalogue: Catalogue) -> dict[str, Pin | None]:
    return {entry.name: entry.pin for entry in catalogue.entries() if entry.pinned}


def noted(folder: Folder) -> dict[str, Pin]:
    annotations = Annotations(folder.path)
    annotations.refresh()
    return annotations.pins()


def test_a_pin_has_a_reason_and_an_end_also_after_a_restart(folder: Folder) -> None:
    assert pin(folder.catalogue()).pin == AUDIT
    assert pins(folder.catalogue()) == {"a.tar.gz": AUDIT}
    assert folder.catalogue().entry("a.tar.gz").pin == AUDIT


def test_a_second_pin_replaces_the_first_and_an_unpinned_archive_has_none(folder: Folder) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    assert pin(catalogue, with_=Pin("another")).pin == Pin("another")
    entry = catalogue.set_pinned("a.tar.gz", pinned=False)
    assert (entry.pinned, entry.pin) == (False, None)
    assert pins(catalogue) == pins(folder.catalogue()) == {}


@pytest.mark.parametrize(("until", "is_pinned"), [(76, False), (77, False), (78, True), (None, True)])
def test_a_pin_ends_at_its_end(folder: Folder, until: int | None, is_pinned: bool) -> None:
    catalogue = folder.catalogue()  # its clock says 77
    pin(catalogue, with_=Pin("until then", until))
    assert (pins(catalogue) != {}) is is_pinned
    assert (pins(folder.catalogue()) != {}) is is_pinned


def test_a_pin_that_ends_while_the_store_runs_is_not_shown_from_then_on(folder: Folder) -> None:
    now = 50
    catalogue = Catalogue(folder.path, "here", folder.read_manifest, lambda _path: "foreign",
                          read_seal=folder.read_seal, now=lambda: now)  # fmt: skip
    pin(catalogue)
    assert pins(catalogue) == {"a.tar.gz": AUDIT}
    now = 99
    assert pins(catalogue) == {}


def remove_file(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"audit", b"Audit"))


@pytest.mark.parametrize("lose", [remove_file, spoil])
@pytest.mark.parametrize("is_running", [True, False])
def test_the_loss_of_the_annotations_loses_no_pin(
    folder: Folder, lose: Callable[[Path], None], is_running: bool
) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    catalogue.entries()
    lose(folder.path / data_folders.ANNOTATIONS)
    for _ in range(2):
        catalogue = catalogue if is_running else folder.catalogue()
        assert pins(catalogue) == {"a.tar.gz": Pin()}
        assert noted(folder) == {"a.tar.gz": Pin()}


@pytest.mark.parametrize("is_running", [True, False])
def test_the_loss_of_the_catalogue_loses_no_pin(folder: Folder, is_running: bool) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    catalogue.entries()
    (folder.path / data_folders.CATALOGUE).unlink()
    catalogue = catalogue if is_running else folder.catalogue()
    assert pins(catalogue) == {"a.tar.gz": AUDIT}
    assert catalogue_file.load(folder.path)["a.tar.gz"].pinned, "an older EventVault sees it too"


def test_pins_of_an_older_version_are_taken_over(folder: Folder) -> None:
    pin(folder.catalogue())
    (folder.path / data_folders.ANNOTATIONS).unlink()
    assert pins(folder.catalogue()) == {"a.tar.gz": Pin()}
    (folder.path / data_folders.CATALOGUE).unlink()
    assert pins(folder.catalogue()) == {"a.tar.gz": Pin()}


def test_an_older_version_that_unpins_an_archive_does_not_unpin_it_here(folder: Folder) -> None:
    pin(folder.catalogue())
    records = catalogue_file.load(folder.path)
    catalogue_file.save(folder.path, {name: catalogue_file.ArchiveRecord(r.identity) for name, r in records.items()})
    assert pins(folder.catalogue()) == {"a.tar.gz": AUDIT}


def test_a_pin_that_is_over_is_not_renewed_by_the_catalogue(folder: Folder) -> None:
    pin(folder.catalogue(), with_=Pin("over", 70))
    for _ in range(2):
        assert pins(folder.catalogue()) == {}


def test_a_pinned_archive_that_was_moved_away_is_pinned_when_it_is_back(folder: Folder) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    (folder.path / "a.tar.gz").rename(folder.path / "away")
    pin(catalogue, "b.tar.gz")
    assert pins(catalogue) == {"b.tar.gz": AUDIT}
    (folder.path / "away").rename(folder.path / "a.tar.gz")
    assert pins(folder.catalogue()) == {"a.tar.gz": AUDIT, "b.tar.gz": AUDIT}


def test_a_removed_archive_leaves_no_pin_for_one_of_the_same_name(folder: Folder) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    catalogue.remove("a.tar.gz")
    folder.put("a.tar.gz")
    assert pins(catalogue) == pins(folder.catalogue()) == {}
    assert noted(folder) == {}


def test_what_a_rehearsal_found_goes_with_its_archive(folder: Folder) -> None:
    annotations = Annotations(folder.path)
    annotations.change("a.tar.gz", rehearsal={"ok": True})
    annotations.change("b.tar.gz", rehearsal={"ok": False})
    (folder.path / "a.tar.gz").unlink()
    annotations.change("b.tar.gz", pin=AUDIT)
    again = Annotations(folder.path)
    again.refresh()
    assert again.of("a.tar.gz").rehearsal is None
    assert (again.of("b.tar.gz").rehearsal, again.of("b.tar.gz").pin) == ({"ok": False}, AUDIT)


def refuse(*_arguments: object, **_more: object) -> None:
    raise NoSpace("writing failed: No space left on device")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_pin_that_cannot_be_noted_changes_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    catalogue = folder.catalogue()
    if not pinned:
        pin(catalogue)
    before = pins(catalogue)
    with monkeypatch.context() as patch:
        patch.setattr(Annotations, "_save", refuse)
        with pytest.raises(NoSpace):
            catalogue.set_pinned("a.tar.gz", pinned=pinned)
        assert pins(catalogue) == before
    assert pins(folder.catalogue()) == before


def unlink_all_but_a(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to remove `a.tar.gz`."""
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == "a.tar.gz":
            raise OSError(errno.EPERM, "Operation not permitted", str(path))
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)


def test_an_archive_that_cannot_be_removed_has_its_pin_still(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    with monkeypatch.context() as patch:
        unlink_all_but_a(patch)
        with pytest.raises(BackupsUnavailable, match=r"removing a\.tar\.gz"):
            catalogue.remove("a.tar.gz")
    assert pins(catalogue) == pins(folder.catalogue()) == {"a.tar.gz": AUDIT}


def test_of_several_archives_those_that_can_be_removed_are(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = folder.catalogue()
    pin(catalogue)
    with monkeypatch.context() as patch:
        unlink_all_but_a(patch)
        assert catalogue.remove_all(lambda entries: sorted(entry.name for entry in entries)) == ["b.tar.gz"]
    assert [entry.name for entry in catalogue.entries()] == ["a.tar.gz"]
    assert pins(folder.catalogue()) == {"a.tar.gz": AUDIT}


def test_annotations_that_the_disk_does_not_give_are_no_damage(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(folder.catalogue())
    catalogue, real = folder.catalogue(), small_files.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == data_folders.ANNOTATIONS:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_bytes", fail)
        with pytest.raises(BackupsUnavailable, match="annotations"):
            catalogue.entries()
        with pytest.raises(BackupsUnavailable, match="annotations"):
            pin(catalogue, with_=Pin("another"))
    assert pins(catalogue) == {"a.tar.gz": AUDIT}


NOTE = """
import sys
from pathlib import Path
from eventvault.backups.annotations import Annotations
print(flush=True); input()
try:
    Annotations(Path(sys.argv[1])).change("b.tar.gz", rehearsal={"result": "good"})
except OSError as error:
    print("error", error.errno)
"""


@pytest.mark.slow
def test_what_was_noted_stays_where_the_system_does_not_tell_that_the_archive_is_there(
    folder: Folder, tmp_path: Path
) -> None:
    Annotations(folder.path).change("a.tar.gz", rehearsal={"result": "good"})
    failing = FailingCalls(folder.path, tmp_path)
    assert failing.printed_by(NOTE, folder.path, first=f"lstat64 of {folder.path}/a.tar.gz") == f"error {errno.EIO}"
    annotations = Annotations(folder.path)
    annotations.refresh()
    assert annotations.of("a.tar.gz").rehearsal == {"result": "good"}

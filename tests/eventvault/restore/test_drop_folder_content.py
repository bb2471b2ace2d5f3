"""`restore/`: what was dealt with is recognised by its content, whatever its name, times, permissions and inode are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.files import mark_folder
from eventvault.restore import drop_folder
from eventvault.restore.drop_folder import DroppedFile, Note
from eventvault.settings import Settings
from tests.mounts import read_only
from tests.restoring import drafts, flip, make_archive, prefixes, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow

PRESENT = {"new": 3, "later": 1}


@pytest.fixture
def skipped(settings: Settings) -> Path:
    """An old archive that a start skipped for a newer one; an event was posted since. No service runs."""
    make_archive(settings.restore_dir / "new.tar.gz", "new")
    path = make_archive(settings.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    with running_service(settings) as service:
        service.append(drafts(1, "later"))
    return path


@pytest.fixture
def not_moved(settings: Settings) -> Path:
    """An archive that was restored but could not be moved away; an event was posted since. No service runs."""
    settings.restore_dir.mkdir(parents=True, exist_ok=True)
    (settings.restore_dir / "restored").write_text("in the way")
    path = make_archive(settings.restore_dir / "a.tar.gz", "new")
    with running_service(settings) as service:
        service.append(drafts(1, "later"))
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read for their digest."""
    read, names = DroppedFile.read, []

    def noting(path: Path) -> DroppedFile:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(DroppedFile, "read", noting)
    return names


def chmod(path: Path) -> None:
    path.chmod(0o664)


def touch(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def link(path: Path) -> None:
    os.link(path, path.with_name("other"))
    path.with_name("other").rename(path)
    path.with_name("other").unlink(missing_ok=True)


def copy_over(path: Path) -> None:
    """As a remount or a restored file system: other inode, other ctime."""
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed.tar.gz"))


def copy_beside(path: Path) -> None:
    shutil.copy(path, path.with_name("zz.tar.gz"))


CHANGES = [chmod, touch, link, copy_over, rename, copy_beside]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kind", "code"), [("skipped", "restore_left"), ("not_moved", "restore_not_moved")])
def test_a_change_that_is_none_of_content_applies_nothing(
    settings: Settings, request: pytest.FixtureRequest, kind: str, code: str, change: Callable[[Path], None]
) -> None:
    change(request.getfixturevalue(kind))
    for _ in range(2):
        with running_service(settings) as service:
            assert prefixes(service) == PRESENT
            assert set(problem_codes(service)) == {code}
            (first, *_) = service.status()["problems"]
            assert "POST /api/backup/restore" in first["hint"]
            assert Path(first["message"].split(" was ")[0]).exists()


def test_a_copy_of_the_installation_at_another_place_applies_nothing(
    settings: Settings, skipped: Path, tmp_path: Path, settings_with: Callable[..., Settings]
) -> None:
    root = tmp_path / "elsewhere"
    folders = {"STORAGE_DIR": settings.storage_dir, "BACKUP_DIR": settings.backup_dir, "RESTORE_DIR": skipped.parent}
    for name, folder in folders.items():
        shutil.copytree(folder, root / name, copy_function=shutil.copy2)
    with running_service(settings_with({name: str(root / name) for name in folders})) as service:
        assert prefixes(service) == PRESENT
        (problem,) = service.status()["problems"]
        assert problem["message"].startswith(str(root / "RESTORE_DIR" / skipped.name))


def test_it_is_applied_when_it_is_dropped_again_after_a_start_without_it(
    settings: Settings, skipped: Path, tmp_path: Path
) -> None:
    shutil.move(skipped, tmp_path / "aside")
    with running_service(settings) as service:
        assert problem_codes(service) == []
    shutil.move(tmp_path / "aside", skipped)
    with running_service(settings) as service:
        assert prefixes(service) == {"old": 3}


def test_moved_out_and_in_again_without_a_start_between_it_is_named(
    settings: Settings, skipped: Path, tmp_path: Path
) -> None:
    shutil.move(skipped, tmp_path / "aside")
    shutil.copy(tmp_path / "aside", skipped)
    with running_service(settings) as service:
        assert prefixes(service) == PRESENT
        assert problem_codes(service) == ["restore_left"]


def test_another_file_of_the_same_name_size_and_time_is_another_one(settings: Settings, skipped: Path) -> None:
    before = skipped.stat()
    flip(skipped, before.st_size // 2)
    os.utime(skipped, ns=(before.st_atime_ns, before.st_mtime_ns))
    with running_service(settings) as service:
        assert prefixes(service) == PRESENT
        assert problem_codes(service) == ["restore_refused"], "it was read as an archive, and it is damaged"


def test_a_damaged_file_that_is_replaced_by_a_good_one_is_applied(settings: Settings, tmp_path: Path) -> None:
    good = make_archive(tmp_path / "a.tar.gz", "good")
    settings.restore_dir.mkdir()
    path = Path(shutil.copy(good, settings.restore_dir))
    flip(path, path.stat().st_size // 2)
    with running_service(settings) as service:
        assert problem_codes(service) == ["restore_refused"]
    shutil.copy(good, path)
    with running_service(settings) as service:
        assert prefixes(service) == {"good": 3}


def test_a_folder_that_cannot_be_read_forgets_nothing(settings: Settings, skipped: Path) -> None:
    hidden = settings.restore_dir.rename(settings.restore_dir.with_name("hidden"))
    settings.restore_dir.symlink_to(hidden)
    broken = drop_folder.DropFolder(settings)
    hidden.rename(hidden.with_name("gone"))
    assert broken.candidates() == []
    hidden.with_name("gone").rename(hidden)
    chmod(skipped)
    assert drop_folder.DropFolder(settings).candidates() == []


def test_a_file_that_cannot_be_read_is_not_applied_and_not_forgotten(
    settings: Settings, skipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> DroppedFile:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(DroppedFile, "read", failing)
        folder = drop_folder.DropFolder(settings)
        assert folder.candidates() == []
        assert {problem.code for problem in folder.problems} == {"restore_refused", "restore_left"}
    assert drop_folder.DropFolder(settings).candidates() == []


def test_a_file_that_could_not_be_read_as_it_was_skipped_is_not_applied_once_it_can(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.storage_dir.mkdir()
    settings.backup_dir.mkdir()
    path = make_archive(settings.restore_dir / "old.tar.gz")

    def failing(path: Path) -> DroppedFile:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(DroppedFile, "read", failing)
        drop_folder.DropFolder(settings).mark_skipped([path], path.with_name("new.tar.gz"))
    chmod(path)
    assert drop_folder.DropFolder(settings).candidates() == []


def test_a_start_with_nothing_new_reads_nothing(
    settings: Settings, skipped: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_folder, "SETTLED_NS", 0)
    chmod(skipped)
    with running_service(settings):
        assert hashed == [skipped.name]
    memory = settings.storage_dir / "restore_memory.json"
    written = memory.stat().st_mtime_ns
    make_archive(settings.restore_dir / "another-size.tar.gz.part")
    with running_service(settings):
        assert hashed == [skipped.name]
    assert memory.stat().st_mtime_ns == written


def test_a_file_that_changed_just_before_it_was_read_is_read_again(settings: Settings, skipped: Path) -> None:
    """A second write within a tick of the file system's clock has the same ctime."""
    chmod(skipped)
    assert DroppedFile.read(skipped).unchanged is None
    assert not DroppedFile.read(skipped).is_unchanged(skipped)


def test_a_file_that_was_moved_before_a_kill_is_not_remembered(settings: Settings, not_moved: Path) -> None:
    """The kill comes between the move and the removal of the note; a take-over finishes the restore."""
    content = not_moved.read_bytes()
    not_moved.unlink()
    drop_folder.DropFolder(settings).move_to_restored(not_moved, None)
    not_moved.write_bytes(content)
    assert drop_folder.DropFolder(settings).candidates() == [not_moved]


def as_0_1_0_wrote_it(settings: Settings, path: Path, code: str) -> Path:
    status = path.stat()
    changed = status.st_ctime_ns if code == "restore_left" else 0
    file = {"name": path.name, "size": status.st_size, "modified": status.st_mtime_ns, "changed": changed}
    note = {"file": file, "code": code, "message": f"{path} was left, because…", "hint": "move it out and in"}
    memory = settings.storage_dir / "restore_memory.json"
    memory.write_text(json.dumps([note]))
    return memory


@pytest.mark.parametrize(("kind", "code"), [("skipped", "restore_left"), ("not_moved", "restore_not_moved")])
def test_a_note_of_0_1_0_counts_and_gets_the_digest(
    settings: Settings, request: pytest.FixtureRequest, kind: str, code: str
) -> None:
    path = request.getfixturevalue(kind)
    memory = as_0_1_0_wrote_it(settings, path, code)
    with running_service(settings) as service:
        assert prefixes(service) == PRESENT
        (problem,) = service.status()["problems"]
        assert problem["message"] == f"{path} was left, because…"
        assert "restart the service, move it in" in problem["hint"]
    (note,) = json.loads(memory.read_text())
    assert note["file"]["sha256"] == DroppedFile.read(path).sha256
    copy_over(path)
    with running_service(settings) as service:
        assert prefixes(service) == PRESENT


def test_a_file_that_0_1_0_restored_is_moved_away(settings: Settings, skipped: Path) -> None:
    """It decided the restore, and this program finishes it: the intent's `arrived` has no digest."""
    status = skipped.stat()
    arrived = DroppedFile(skipped.name, status.st_size, status.st_mtime_ns)
    drop_folder.DropFolder(settings).move_to_restored(skipped, msgspec.structs.replace(arrived, modified=1))
    assert skipped.exists(), "that is another file"
    drop_folder.DropFolder(settings).move_to_restored(skipped, arrived)
    assert not skipped.exists()


@pytest.mark.parametrize("change", [chmod, touch, copy_over])
def test_a_file_that_was_touched_while_it_was_restored_is_moved_away(
    settings: Settings, skipped: Path, change: Callable[[Path], None]
) -> None:
    arrived = DroppedFile.at(skipped)
    change(skipped)
    drop_folder.DropFolder(settings).move_to_restored(skipped, arrived)
    assert not skipped.exists()


def test_another_file_that_took_the_name_meanwhile_waits_for_the_next_start(settings: Settings, skipped: Path) -> None:
    arrived, before = DroppedFile.at(skipped), skipped.stat()
    flip(skipped, before.st_size // 2)
    os.utime(skipped, ns=(before.st_atime_ns, before.st_mtime_ns))
    drop_folder.DropFolder(settings).move_to_restored(skipped, arrived)
    assert drop_folder.DropFolder(settings).candidates() == [skipped]


class Seen(msgspec.Struct, frozen=True):
    """A noted file as 0.1.0 reads it, and recognises it: `seen(path)` or `seen(path, moved=True)`."""

    name: str
    size: int
    modified: int
    changed: int = 0


@pytest.mark.parametrize("kind", ["skipped", "not_moved"])
def test_0_1_0_recognises_what_is_noted(settings: Settings, request: pytest.FixtureRequest, kind: str) -> None:
    path: Path = request.getfixturevalue(kind)
    chmod(path)
    with running_service(settings):
        pass
    notes: list[dict[str, Any]] = json.loads((settings.storage_dir / "restore_memory.json").read_bytes())
    status = path.stat()
    changed = status.st_ctime_ns if kind == "skipped" else 0
    (noted,) = [msgspec.convert(note["file"], Seen) for note in notes]
    assert noted == Seen(path.name, status.st_size, status.st_mtime_ns, changed)


def test_a_note_keeps_its_reason_when_its_file_is_moved() -> None:
    file = DroppedFile("a.tar.gz", 1, 2, 3, "ab")
    note = Note(file, "restore_left", "/x/a.tar.gz was skipped, because the newer b-a.tar.gz was restored", "")
    moved = note.renewed(Path("/y/c.tar.gz"), msgspec.structs.replace(file, name="c.tar.gz"))
    assert moved.message == "/y/c.tar.gz was skipped, because the newer b-a.tar.gz was restored"


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.tar.gz"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    assert DroppedFile.read(path).size == 64 * 2**20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.root
@pytest.mark.parametrize("starts_without", [1, 2])
@pytest.mark.parametrize("is_marked", [True, False])
def test_starts_while_the_disk_of_restore_is_not_mounted_forget_nothing(
    settings: Settings, tmp_path: Path, starts_without: int, is_marked: bool
) -> None:
    """A read-only disk, from which nothing can be moved, takes no mark either; an earlier start may have made one."""
    disk = tmp_path / "disk"
    make_archive(disk / "a.tar.gz", "new")
    settings.restore_dir.mkdir(parents=True)
    if is_marked:
        mark_folder(disk)
    with read_only(settings.restore_dir, disk), running_service(settings) as service:
        service.append(drafts(1, "later"))
        assert problem_codes(service) == ["restore_not_moved"]
    for _ in range(starts_without):
        with running_service(settings) as service:
            assert (prefixes(service), problem_codes(service)) == (PRESENT, [])
    with read_only(settings.restore_dir, disk), running_service(settings) as service:
        assert (prefixes(service), problem_codes(service)) == (PRESENT, ["restore_not_moved"])


@pytest.mark.parametrize("content", [bytes(5000), b"PK" * 3000, b"no archive\n" * 900, None])
def test_what_is_no_whole_archive_is_not_read_to_its_end(
    settings: Settings, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name))
    good = make_archive(settings.restore_dir / "new.tar.gz", "new")
    odd = settings.restore_dir / "backup_2020-01-01_000000.tar.gz"
    odd.write_bytes(good.read_bytes()[:-60] if content is None else content)
    os.utime(odd, (1e9, 1e9))
    good.rename(settings.restore_dir.with_name("new"))
    with running_service(settings) as service:
        assert problem_codes(service) == ["restore_refused"]
    settings.restore_dir.with_name("new").rename(good)
    for _ in range(2):
        with running_service(settings) as service:
            assert prefixes(service) == {"new": 3}
            assert problem_codes(service) == ["restore_left"]
    assert str(odd) not in map(str, read)

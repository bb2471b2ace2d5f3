"""Durable writes leave the old content or the new, complete, and no other file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from eventvault import data_folders, files
from eventvault.errors import NoSpace
from eventvault.files import FileIdentity
from tests.failing_calls import FailingCalls


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The syncs and renames in order, as `fsync NAME` and `rename NAME`."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(handle: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.append(f"rename {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    return calls


def test_a_file_is_synced_before_it_takes_its_name_and_the_folder_after(tmp_path: Path, synced: list[str]) -> None:
    files.write_durably(tmp_path / "entry", b"content")
    assert (tmp_path / "entry").read_bytes() == b"content"
    temporary, renamed, folder = synced
    assert temporary.startswith("fsync .entry.")
    assert temporary.endswith(data_folders.TEMPORARY_SUFFIX)
    assert (renamed, folder) == ("rename entry", f"fsync {tmp_path.name}")


def test_a_write_that_is_broken_off_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "entry"
    target.write_bytes(b"old")

    def break_off() -> None:
        with files.durable_file(target) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"entry": b"old"}


def test_a_name_that_is_taken_is_replaced_or_refused_as_asked(tmp_path: Path) -> None:
    target = tmp_path / "entry"
    files.write_durably(target, b"first", replace=False)
    with pytest.raises(FileExistsError):
        files.write_durably(target, b"second", replace=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"entry": b"first"}
    files.write_durably(target, b"third")
    assert target.read_bytes() == b"third"


@pytest.mark.parametrize("there", [True, False])
def test_a_file_system_without_hard_links_never_overwrites_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "entry"
    if there:
        target.write_bytes(b"old")
        with pytest.raises(FileExistsError):
            files.write_durably(target, b"new", replace=False)
    else:
        files.write_durably(target, b"new", replace=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"entry": b"old" if there else b"new"}


def test_a_full_disk_in_a_durable_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=f"writing {tmp_path / 'entry'} failed"), files.durable_file(tmp_path / "entry"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_with_their_parents_and_made_again_without_harm(tmp_path: Path, synced: list[str]) -> None:
    files.make_folder(tmp_path / "one" / "two")
    files.make_folder(tmp_path / "one" / "two")
    assert (tmp_path / "one" / "two").is_dir()
    assert synced == [f"fsync {tmp_path.name}", "fsync one"]


def test_a_rename_syncs_the_folders_on_both_sides(tmp_path: Path, synced: list[str]) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "entry").write_bytes(b"content")
    files.rename_durably(tmp_path / "from" / "entry", tmp_path / "to" / "entry")
    assert (tmp_path / "to" / "entry").read_bytes() == b"content"
    assert synced == ["fsync to", "fsync from"]


def test_files_folders_and_what_is_not_there_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("folder", "file", "nothing"):
        files.remove_durably(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_removing_a_link_to_a_folder_keeps_the_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    files.remove_durably(tmp_path / "link")
    assert (tmp_path / "folder" / "file").read_bytes() == b"x"
    assert not (tmp_path / "link").is_symlink()


def test_a_tree_is_synced_from_its_leaves_to_its_root(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "inner" / "leaf").write_bytes(b"x")
    (tmp_path / "root" / "file").write_bytes(b"x")
    files.sync_tree(tmp_path / "root")
    assert synced == ["fsync leaf", "fsync inner", "fsync file", "fsync root"]


def test_a_file_system_that_cannot_sync_a_folder_is_borne(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    files.sync_folder(tmp_path)


def test_a_folder_sync_that_fails_for_real_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="the disk is broken"):
        files.sync_folder(tmp_path)


def test_a_file_that_is_written_to_or_replaced_gets_another_identity(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"1")
    first = FileIdentity.at(path)
    path.write_bytes(b"22")
    second = FileIdentity.at(path)
    other.write_bytes(b"33")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    content_only = FileIdentity.of(path.stat(), with_inode=False)
    other.replace(path)

    assert None not in (first, second)
    assert len({first, second, FileIdentity.at(path)}) == 3
    assert FileIdentity.of(path.stat(), with_inode=False) == content_only, "the inode alone tells the two apart"


def test_a_move_away_and_back_shows_with_the_ctime_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before, stamped = FileIdentity.at(path), FileIdentity.of(path.stat(), with_ctime=True)
    path.rename(tmp_path / "b").chmod(0o600)
    (tmp_path / "b").rename(path)

    assert FileIdentity.at(path) == before
    assert FileIdentity.of(path.stat(), with_ctime=True) != stamped


def test_only_a_regular_file_has_an_identity(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")

    assert (
        FileIdentity.at(tmp_path / "missing") is FileIdentity.at(tmp_path / "link") is FileIdentity.at(tmp_path) is None
    )


def test_an_identity_is_written_as_the_catalogue_has_it() -> None:
    assert msgspec.json.encode(FileIdentity(1, 2, 3)) == b'{"size":1,"modified":2,"inode":3}'


def test_an_open_file_is_known_by_its_name_until_the_name_is_another_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.write(b"more")
        assert files.names_open_file(path, file.fileno())
        path.rename(tmp_path / "b")
        assert not files.names_open_file(path, file.fileno())
        path.touch()
        assert not files.names_open_file(path, file.fileno())


def test_free_space_is_what_an_ordinary_user_can_still_write(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 < files.free_bytes(tmp_path) <= found.f_frsize * found.f_blocks


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two open files: one with the ten digits, and an empty one."""
    (tmp_path / "source").write_bytes(b"0123456789")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        yield source.fileno(), target.fileno()


@pytest.mark.parametrize("code", [None, errno.ENOSYS, errno.EXDEV, errno.ENOMEM, errno.EACCES, errno.EIO])
def test_a_range_is_copied_with_and_without_the_kernel(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def refused(*_: object) -> int:
        raise OSError(code, os.strerror(code or 0))

    if code is not None:
        monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr(files, "IO_BYTES", 2)
    assert files.copy_range(pair[0], 3, pair[1], 1, 5) == 5
    assert os.pread(pair[1], 100, 0) == b"\x0034567"


def failing(code: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    "name",
    ["EOPNOTSUPP", "EXDEV", "EINVAL", "ENOTTY", "EPERM", "EINTR", "ENOMEM", "EACCES", "EIO", "ENOSPC"],
)
def test_where_blocks_cannot_be_shared_nothing_is(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", failing(getattr(errno, name)))
    assert files.clone_range(pair[0], 0, pair[1], 0, 8192) == 0
    assert os.fstat(pair[1]).st_size == 0


@pytest.mark.parametrize("range_", [(1, 0, 8192), (0, 1, 8192), (0, 0, 4095)])
def test_only_whole_blocks_are_shared(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch, range_: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: pytest.fail("the file system was asked"))
    assert files.clone_range(pair[0], range_[0], pair[1], range_[1], range_[2]) == 0


def test_a_copy_ends_where_its_source_does(pair: tuple[int, int]) -> None:
    assert files.copy_range(pair[0], 8, pair[1], 0, 5) == 2


def test_a_source_that_cannot_be_read_is_told_from_a_full_target(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", failing(errno.EIO))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(errno.EIO))
        with pytest.raises(files.SourceUnreadable, match="Input/output error"):
            files.copy_range(pair[0], 0, pair[1], 0, 5)
    monkeypatch.setattr(os, "pwrite", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as caught:
        files.copy_range(pair[0], 0, pair[1], 0, 5)
    assert not isinstance(caught.value, files.SourceUnreadable)


def test_a_read_that_a_bad_sector_ends_early_is_not_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    pread = os.pread

    def failing(handle: int, count: int, offset: int) -> bytes:
        if offset >= 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(handle, min(count, 4 - offset), offset)

    with (tmp_path / "file").open("rb") as file:
        assert files.read_at(file.fileno(), 8, 5) == b"89"
        monkeypatch.setattr(os, "pread", failing)
        assert files.read_at(file.fileno(), 0, 4) == b"0123"
        with pytest.raises(OSError, match="Input/output error"):
            files.read_at(file.fileno(), 0, 5)


LOOK = """
import sys
from pathlib import Path
from eventvault import files
print(flush=True); input()
try:
    print(getattr(files, sys.argv[1])(Path(sys.argv[2])))
except OSError as error:
    print("error", error.errno)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("look", "call"), [("is_there", "lstat64"), ("sync_tree", "opendir")])
def test_what_the_system_refuses_to_tell_is_not_taken_for_a_no(tmp_path: Path, look: str, call: str) -> None:
    """A folder that cannot be listed is not an empty one: its files would not be on disk after `sync_tree`."""
    (tmp_path / "data" / "top" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "top" / "sub" / "file").write_text("content")
    failing = FailingCalls(tmp_path / "data", tmp_path)
    path = tmp_path / "data" / "top" / ("sub" if look == "is_there" else "")
    printed = failing.printed_by(LOOK, look, path, first=f"{call} of {tmp_path / 'data' / 'top' / 'sub'}")
    assert printed == f"error {errno.EIO}"


def test_a_link_that_leads_nowhere_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    present = [name for name in ("link", "file", "missing", "file/below") if files.is_there(tmp_path / name)]
    assert present == ["link", "file"]

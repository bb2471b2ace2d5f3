"""What the doctor says of a folder and its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault.doctor import folders
from eventvault.doctor.facts import FileSystem
from eventvault.settings import Settings

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 8:2 / /srv rw shared:2 master:1 - xfs /dev/sdb1 rw
24 22 8:3 / /srv/with\\040blank ro,noatime - btrfs /dev/sdc1 rw,subvol=/a
25 23 8:4 / /srv rw - tmpfs none rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/x", FileSystem("ext4", "/dev/sda1", read_only=False)),
        ("/srv/data", FileSystem("tmpfs", "none", read_only=False)),
        ("/srv/with blank/data", FileSystem("btrfs", "/dev/sdc1", read_only=True)),
    ],
)
def test_the_nearest_mount_point_above_counts_and_of_two_the_newest(
    path: str, found: FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(folders, "_MOUNTS", tmp_path / "mountinfo")
    assert folders.file_system_of(Path(path)) == found


def test_what_the_kernel_does_not_list_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOUNTS", tmp_path / "gone")
    assert folders.file_system_of(tmp_path) is None


def test_a_file_and_a_link_to_nothing_in_the_place_of_a_folder(settings: Settings) -> None:
    settings.storage_dir.parent.mkdir(exist_ok=True)
    settings.storage_dir.write_text("")
    assert folders.look_at_folder(settings, "STORAGE_DIR").problem == "it is not a folder"
    assert not folders.look_at_folder(settings, "BACKUP_DIR").exists


def test_the_size_is_that_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(10))
    (tmp_path / "link").symlink_to("a/b")
    assert folders.size_of(tmp_path) == 10 + len("a/b")

"""Small files: a version, a checksum, and what happens to a file that cannot be understood."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from eventvault import small_files
from eventvault.small_files import SmallFileDamaged
from tests.failing_calls import FailingCalls


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    texts: dict[str, str]


class LaterNote(msgspec.Struct, frozen=True):
    format: Literal[2]
    texts: dict[str, str]


NOTE = Note(1, {"a": "line\nbreak", "b": "ü"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "note.json"


def test_what_was_written_is_read(path: Path) -> None:
    small_files.write(path, NOTE)
    assert small_files.read(path, Note) == NOTE


def test_a_file_is_json_and_its_checksum_is_that_of_all_lines_but_the_second(path: Path) -> None:
    small_files.write(path, NOTE)

    document = msgspec.json.decode(path.read_bytes())
    checksum = subprocess.run(f"sed 2d {path} | sha256sum", shell=True, capture_output=True, text=True, check=True)
    assert document == {
        "checksum": f"sha256:{checksum.stdout.split()[0]}",
        "format": 1,
        "texts": {"a": "line\nbreak", "b": "ü"},
    }


@pytest.mark.slow
def test_each_flipped_bit_and_each_missing_end_is_damage(path: Path) -> None:
    small_files.write(path, NOTE)
    content = path.read_bytes()
    flips = [
        bytes([*content[:n], content[n] ^ 1 << bit, *content[n + 1 :]]) for n in range(len(content)) for bit in range(8)
    ]
    for damaged in [*flips, *(content[:n] for n in range(len(content))), content + b"\n"]:
        path.write_bytes(damaged)
        with pytest.raises(SmallFileDamaged):
            small_files.read(path, Note)


def test_a_flip_never_turns_a_file_with_a_checksum_into_one_of_an_earlier_version(path: Path) -> None:
    small_files.write(path, NOTE)
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(bytes([*content[:n], content[n] ^ 1, *content[n + 1 :]]))
        with pytest.raises(SmallFileDamaged):
            small_files.read(path, Note, earlier=Note)


def test_a_file_without_a_checksum_is_read_only_if_the_caller_accepts_it(path: Path) -> None:
    path.write_text('{"format": 1, "texts": {}}')
    assert small_files.read(path, Note, earlier=Note) == Note(1, {})
    with pytest.raises(SmallFileDamaged, match="no checksum"):
        small_files.read(path, Note)


def test_a_later_version_and_members_that_are_not_known_cannot_be_understood(path: Path) -> None:
    small_files.write(path, LaterNote(2, {}))
    with pytest.raises(SmallFileDamaged, match="cannot be understood"):
        small_files.read(path, Note)
    path.write_text('{"format": 1, "texts": {}, "more": 1}')
    with pytest.raises(SmallFileDamaged, match="more"):
        small_files.read(path, Note, earlier=Note)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"format": 1}', b"null", b"[" * 100_000, b"\0" * 512])
def test_bytes_that_are_no_small_file_are_quarantined_and_the_caller_goes_on_without(
    path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    assert small_files.read_or_quarantine(path, Note, earlier=Note) is None
    assert not path.exists()
    assert [file.read_bytes() for file in small_files.quarantined(path)] == [content]


def test_an_earlier_quarantined_file_stays(path: Path) -> None:
    for number in range(3):
        path.write_text(f"damage {number}")
        small_files.read_or_quarantine(path, Note)
    assert {file.name: file.read_text() for file in small_files.quarantined(path)} == {
        "note.json.damaged": "damage 0",
        "note.json.damaged-2": "damage 1",
        "note.json.damaged-3": "damage 2",
    }


def test_a_missing_file_is_no_damage(path: Path) -> None:
    assert small_files.read_or_quarantine(path, Note) is None
    with pytest.raises(FileNotFoundError):
        small_files.read(path, Note)
    assert small_files.quarantined(path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_an_error_of_the_system_passes_and_the_file_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    small_files.write(path, NOTE)

    def fail(_path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_bytes", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            small_files.read_or_quarantine(path, Note)
    assert small_files.read(path, Note) == NOTE


def test_a_secret_is_readable_by_its_owner_only_and_is_never_overwritten(path: Path) -> None:
    small_files.write(path, NOTE, replace=False, mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        small_files.write(path, Note(1, {}), replace=False)
    assert small_files.read(path, Note) == NOTE


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{\n "checksum": "sha256:' + b"0" * 64 + b'",\n "format": 1\n}\n']
)
def test_a_check_finds_damage_whatever_the_file_is_about_and_renames_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(SmallFileDamaged):
        small_files.check(path)
    assert [found.name for found in tmp_path.iterdir()] == ["some.json"]


def test_a_check_takes_what_was_written_and_what_has_no_checksum(tmp_path: Path) -> None:
    small_files.write(tmp_path / "new.json", NOTE)
    (tmp_path / "old.json").write_text('["a list"]')
    for name in ("new.json", "old.json"):
        small_files.check(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        small_files.check(tmp_path / "none.json")


QUARANTINE = """
import sys
from pathlib import Path
from eventvault import small_files
print(flush=True); input()
try:
    small_files.quarantine(Path(sys.argv[1]))
except OSError as error:
    print("error", error.errno)
"""


@pytest.mark.slow
def test_a_quarantined_file_is_not_overwritten_where_the_system_does_not_tell_that_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "note.json").write_text("later")
    (folder / "note.json.damaged").write_text("earlier")
    failing = FailingCalls(folder, tmp_path)
    printed = failing.printed_by(QUARANTINE, folder / "note.json", first=f"lstat64 of {folder}/note.json.damaged")
    assert printed == f"error {errno.EIO}"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "note.json": "later",
        "note.json.damaged": "earlier",
    }


LIST = """
import sys
from pathlib import Path
from eventvault.small_files import QuarantinedFiles
files = QuarantinedFiles([Path(sys.argv[1])])
print(flush=True); input()
print(len(files.present()), len(files.present()))
"""


@pytest.mark.slow
def test_quarantined_files_are_found_once_their_folder_can_be_listed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "top"
    folder.mkdir(parents=True)
    (folder / "note.json.damaged").write_text("earlier")
    failing = FailingCalls(tmp_path / "data", tmp_path)
    assert failing.printed_by(LIST, folder, first=f"opendir of {folder}") == "0 1"

"""Quarantined messages in the journal, while the quarantine changes."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import data_folders
from eventvault.backups.file_problems import FileProblems
from eventvault.database import keys
from eventvault.errors import DatabaseDamaged, EventVaultError
from eventvault.journal import dead_letters
from eventvault.journal.dead_letters import DeadLettersFolder
from eventvault.kafka import quarantine_format
from eventvault.kafka.quarantine_format import MessagePlace
from eventvault.settings import Settings
from tests.quarantine import letter

OURS = "ours"


class Rows:
    """The keys of messages. leaving: one that leaves the quarantine when its content is asked for."""

    def __init__(self, *times: int) -> None:
        """Quarantine a message at each of these instants."""
        self.leaving: MessagePlace | None = None
        self.by_key: dict[bytes, bytes] = {}
        for number, at in enumerate(times, 1):
            self.by_key.update(
                quarantine_format.key_values_of(place(number), at, *quarantine_format.describe(*letter(number)[:2]))
            )

    def scan_meta(self, prefix: bytes) -> dict[bytes, bytes]:
        return {key: value for key, value in self.by_key.items() if key.startswith(prefix)}

    @contextmanager
    def rows(self, start: bytes, stop: bytes) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        yield iter(sorted((key, value) for key, value in self.by_key.items() if start < key < stop))

    def get_value(self, key: bytes) -> bytes | None:
        if self.leaving is not None and key == self.leaving.key:
            self.drop(self.leaving)
        return self.by_key.get(key)

    def drop(self, dropped: MessagePlace) -> None:
        self.by_key = {key: value for key, value in self.by_key.items() if not key.endswith(dropped.suffix)}


def place(number: int) -> MessagePlace:
    return MessagePlace("events", 0, number)


def folder_of(rows: Any, root: Path) -> DeadLettersFolder:
    return DeadLettersFolder(root, OURS, lambda: nullcontext(rows))


def in_files(root: Path) -> list[set[bytes]]:
    """The keys of the messages in each file."""
    return [{key for key, _, _ in dead_letters.read(path, OURS) or ()} for path in dead_letters.files_of(root)]


def test_a_message_that_leaves_while_it_is_read_keeps_no_other_one_out(tmp_path: Path) -> None:
    rows = Rows(1, 2)
    rows.leaving = place(1)
    folder_of(rows, tmp_path).write_new()
    assert in_files(tmp_path) == [{quarantine_format.list_key(2, place(2))}]


def test_what_comes_back_joins_the_others_of_its_instant(tmp_path: Path) -> None:
    """As after a restore of an archive that has messages which were dropped since."""
    rows = Rows(5, 5, 5)
    before = dict(rows.by_key)
    folder = folder_of(rows, tmp_path)
    folder.write_new()
    rows.drop(place(1))
    rows.drop(place(3))
    folder.tend()
    assert in_files(tmp_path) == [rows.scan_meta(keys.QUARANTINE_LIST).keys()]
    rows.by_key = before
    folder.tend()
    assert in_files(tmp_path) == [rows.scan_meta(keys.QUARANTINE_LIST).keys()]


def test_a_message_that_is_listed_and_has_no_content_is_damage(tmp_path: Path) -> None:
    rows = Rows(1, 2)
    del rows.by_key[place(1).key]
    assert rows.scan_meta(keys.QUARANTINE_LIST)
    with pytest.raises(DatabaseDamaged):
        folder_of(rows, tmp_path).write_new()


def written(rows: Rows, root: Path) -> Path:
    folder_of(rows, root).write_new()
    (path,) = dead_letters.files_of(root)
    return path


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES, errno.ENOMEM])
def test_a_file_that_the_system_cannot_read_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else a recovery would go on without its messages, and say nothing."""
    rows = Rows(1, 2, 3)
    path = written(rows, tmp_path)
    before = path.read_bytes()

    def refuse(_: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "read_file", refuse)
        database = plyvel.DB(str(tmp_path / "db"), create_if_missing=True)
        for work in (
            lambda: dead_letters.put_back(database, tmp_path, OURS),
            lambda: dead_letters.check_readable(tmp_path, OURS),
        ):
            with pytest.raises(EventVaultError, match=path.name) as raised:
                work()
            assert raised.value.code in ("disk_failed", "too_busy")
        if raised.value.code == "disk_failed":
            path.write_bytes(b"a bad sector")
            folder_of(rows, tmp_path).tend()  # it writes them again: no event may wait for a file that cannot be read
        else:
            with pytest.raises(EventVaultError, match=path.name):
                folder_of(rows, tmp_path).tend()
    assert path.read_bytes() == before
    dead_letters.put_back(database, tmp_path, OURS)
    assert dict(database.iterator(prefix=keys.QUARANTINE_LIST)) == rows.scan_meta(keys.QUARANTINE_LIST)
    database.close()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flipped,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "link": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_quarantined_and_its_messages_are_written_again(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    root = settings.backup_dir / data_folders.JOURNAL
    rows = Rows(1, 2, 3)
    path = written(rows, root)
    DAMAGES[damage](path)
    folder_of(rows, root).tend()
    assert in_files(root) == [rows.scan_meta(keys.QUARANTINE_LIST).keys()]
    (problem,) = [each for each in FileProblems(settings).problems() if each.code == "file_damaged"]
    assert problem.about == f"{path}.damaged"
    assert "dead letters" in problem.message


def test_a_file_of_a_later_version_stays(tmp_path: Path) -> None:
    path = written(Rows(1), tmp_path)
    text = gzip.decompress(path.read_bytes()).replace(b'"formatVersion":1', b'"formatVersion":2', 1)
    path.write_bytes(gzip.compress(text))
    assert dead_letters.read(path, OURS) is None
    assert path.exists()

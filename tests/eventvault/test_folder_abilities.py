"""What STORAGE_DIR must be able to do, and where temporary files go if the system has no place for them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventvault import folder_abilities
from eventvault.errors import InvalidSettings
from eventvault.settings import Settings
from tests.mounts import tiny_disk, without_sockets


@pytest.fixture
def made(settings: Settings) -> Settings:
    settings.storage_dir.mkdir()
    return settings


def failing(number: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_an_ordinary_folder_has_all_and_nothing_is_left_in_it(made: Settings) -> None:
    folder_abilities.check_storage(made)
    assert list(made.storage_dir.iterdir()) == []


def test_a_path_that_is_too_long_for_a_socket_is_no_obstacle(made: Settings) -> None:
    deep = made.storage_dir / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    folder_abilities.check_storage(replace(made, storage_dir=deep))


@pytest.mark.slow
def test_a_folder_without_sockets_is_named_with_what_it_lacks(made: Settings, tmp_path: Path) -> None:
    with without_sockets(tmp_path / "share") as share, pytest.raises(InvalidSettings) as caught:
        folder_abilities.check_storage(replace(made, storage_dir=share))
    assert caught.value.message == (
        f"STORAGE_DIR {share} is on a file system without Unix sockets, which the processes of the service use"
    )


@pytest.mark.parametrize("call", ["flock", "lockf"])
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_without_locks_is_named(
    made: Settings, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    monkeypatch.setattr(fcntl, call, failing(number))
    with pytest.raises(InvalidSettings, match=r"STORAGE_DIR .* without file locks"):
        folder_abilities.check_storage(made)
    assert list(made.storage_dir.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EIO, errno.EAGAIN])
def test_an_error_that_passes_is_no_reason_to_refuse_the_folder(
    made: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    monkeypatch.setattr(socket.socket, "bind", failing(number))
    folder_abilities.check_storage(made)


def test_a_full_disk_is_no_reason_to_refuse_the_folder(made: Settings) -> None:
    with tiny_disk(made.storage_dir, 1, inodes=1):
        folder_abilities.check_storage(made)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Lets Python look for its temporary folder again, and restores all of that afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", ""))
    return monkeypatch


def test_a_temporary_folder_of_the_system_is_used(made: Settings, found: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found.setenv("TMPDIR", str(tmp_path))
    folder_abilities.ensure_temporary_folder(made)
    assert tempfile.gettempdir() == str(tmp_path)
    assert list(made.storage_dir.iterdir()) == []


@pytest.mark.parametrize("writable", [True, False], ids=["only the working directory", "nothing"])
def test_without_one_a_folder_in_storage_is_used_by_this_process_and_its_children(
    made: Settings, found: pytest.MonkeyPatch, tmp_path: Path, writable: bool
) -> None:
    candidates = [str(tmp_path)] if writable else [str(tmp_path / "missing")]
    found.setattr(tempfile, "_candidate_tempdir_list", lambda: candidates)
    found.chdir(tmp_path)

    folder_abilities.ensure_temporary_folder(made)

    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(made.storage_dir / "tmp")
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == made.storage_dir / "tmp"

"""Whatever lies in the place of a file, opening it ends at once, with its name and what it is."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventvault import regular_files, small_files
from eventvault.damage import as_answer
from eventvault.errors import DiskFailed
from eventvault.regular_files import NotRegular, open_file, open_handle, read_file
from tests.processes import open_beneath


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a link": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file": lambda path: path.symlink_to(__file__),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a looping link": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_is_refused_at_once_and_named(tmp_path: Path, kind: str, flags: int) -> None:
    path = tmp_path / "place"
    STRANGE[kind](path)
    with pytest.raises(
        NotRegular, match=f"{path} is {'a link' if 'link' in kind else kind} and not a regular file"
    ) as raised:
        open_handle(path, flags)
    assert raised.value.strerror == str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(tmp_path: Path) -> None:
    with suppress(PermissionError):
        os.mknod(tmp_path / "device", 0o600 | 0o020000, os.makedev(1, 3))
        with pytest.raises(NotRegular, match="is a device"):
            open_handle(tmp_path / "device")


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_handle(tmp_path)
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path, "wb")


def test_a_link_is_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    handle = open_handle(tmp_path / "link", follow=True)
    assert os.read(handle, 100) == b"content"
    os.close(handle)


def test_files_are_read_written_and_made_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open_file(path, "xb", permissions=0o600) as file:
        file.write(b"content")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_file(path) == b"content"
    with pytest.raises(FileExistsError):
        open_file(path, "xb")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for _ in range(5):
        with pytest.raises(NotRegular):
            open_handle(tmp_path / "pipe")
    assert open_beneath(tmp_path) == []


def test_a_caller_is_told_what_is_in_the_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegular) as raised:
        read_file(tmp_path / "pipe")
    answer = as_answer("reading the journal", raised.value)
    assert isinstance(answer, DiskFailed)
    assert answer.message == f"reading the journal failed: {tmp_path / 'pipe'} is a pipe and not a regular file"
    with pytest.raises(small_files.NotAFile, match="is a pipe"):
        small_files.read_bytes(tmp_path / "pipe")


def test_the_limit_of_open_files_is_the_highest_that_is_allowed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, before[1]), before[1]))
        regular_files.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""A store can be reached wherever it could make its socket, and nobody else's socket is taken for it."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.rpc import sockets


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("storage", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "storage"


def refuse(storage: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the disk of `storage` take no socket."""
    listen = sockets._listen_in

    def failing(folder: Path, name: str) -> object:
        if folder == storage:
            raise OSError(number, os.strerror(number), str(folder))
        return listen(folder, name)

    monkeypatch.setattr(sockets, "_listen_in", failing)


def elsewhere(storage: Path) -> list[Path]:
    return list((storage.parent / "temporary").iterdir())


def test_it_lies_in_storage_where_it_can(storage: Path) -> None:
    listener, path = sockets.listen(storage)
    with closing(listener), closing(sockets.connect(storage, 5)):
        assert path == storage / "store.sock"
    sockets.remove(path)
    assert list(storage.iterdir()) == elsewhere(storage) == []
    with pytest.raises(FileNotFoundError):
        sockets.connect(storage, 5)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_it_lies_elsewhere_where_the_disk_takes_none(
    storage: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before, _ = sockets.listen(storage)
    before.close()  # killed: its socket stays
    refuse(storage, monkeypatch, number)
    listener, path = sockets.listen(storage)
    with closing(listener), closing(sockets.connect(storage, 5)):
        assert path.parent.parent == storage.parent / "temporary"
        assert path.parent.stat().st_mode & 0o777 == 0o700
    sockets.remove(path)
    assert elsewhere(storage) == []


def test_a_folder_of_somebody_else_is_not_used(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(storage, monkeypatch, errno.EROFS)
    folder = sockets._substitute(storage)
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="Read-only"):
        sockets.listen(storage)
    with closing(sockets._listen_in(folder, "store.sock")), pytest.raises(FileNotFoundError):
        sockets.connect(storage, 5)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.symlink_to(storage.parent)
    with pytest.raises(OSError, match="Read-only"):
        sockets.listen(storage)


def test_the_reason_is_that_of_storage(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(storage, monkeypatch, errno.EROFS)
    monkeypatch.setattr(tempfile, "tempdir", str(storage / "missing"))
    with pytest.raises(OSError, match="Read-only") as caught:
        sockets.listen(storage)
    assert caught.value.filename == str(storage)

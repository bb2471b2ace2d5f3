"""Bad settings: every way to start says all of them at once, exits 78, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import read_only, without_sockets
from tests.ports import free_port
from tests.service import PROJECT, service_environment

BAD = {
    "MAX_BACKUPS": "none",
    "KEEP_DAILY": "-1",
    "AUTO_BACKUP_INTERVAL": "999",
    "AUTO_BACKUP_ENABLED": "perhaps",
    "AUTO_RESTORE_ENABLED": "2",
    "AUTO_RECOVER": "maybe",
}
WAYS = {
    "gunicorn": [sys.executable, "-m", "gunicorn", "wsgi:app"],
    "gunicorn --preload": [sys.executable, "-m", "gunicorn", "--preload", "wsgi:app"],
    "flask run": [sys.executable, "-m", "flask", "--app", "wsgi", "run"],
    "python -m app.store": [sys.executable, "-m", "app.store"],
}


@pytest.mark.parametrize("way", WAYS)
def test_bad_settings_are_all_reported_and_nothing_starts(
    way: str, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    environment = service_environment({**settings_environment, **BAD}, free_port(), "bad-settings")

    ended = subprocess.run(
        WAYS[way], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )

    said = ended.stderr + ended.stdout
    assert ended.returncode == 78, said
    for name, value in BAD.items():
        assert name in said
        assert value in said
    assert "allowed" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_folders_that_cannot_be_made_are_named_and_nothing_starts(
    way: str, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    impossible = {"BACKUP_DIR": str(tmp_path / "file" / "backups"), "RESTORE_DIR": str(tmp_path / "file" / "restore")}
    environment = service_environment({**settings_environment, **impossible}, free_port(), "bad-folders")

    ended = subprocess.run(
        WAYS[way], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )

    said = ended.stderr + ended.stdout
    assert ended.returncode == 78, said
    assert all(folder in said for folder in impossible.values())
    assert "Traceback" not in said


@pytest.mark.parametrize("way", WAYS)
def test_a_storage_folder_that_cannot_be_written_to_is_named_and_nothing_starts(
    way: str, settings_environment: dict[str, str]
) -> None:
    storage = Path(settings_environment["STORAGE_DIR"])
    storage.mkdir(parents=True)
    environment = service_environment(settings_environment, free_port(), "read-only-storage")

    with read_only(storage):
        ended = subprocess.run(
            WAYS[way], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )

    said = ended.stderr + ended.stdout
    assert ended.returncode == 78, said
    assert f"STORAGE_DIR {storage} cannot be written to" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("way", WAYS)
def test_a_storage_folder_without_sockets_is_named_with_what_it_lacks(
    way: str, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    with without_sockets(tmp_path / "share") as share:
        settings = {**settings_environment, "STORAGE_DIR": str(share / "storage")}
        environment = service_environment(settings, free_port(), "no-sockets")
        ended = subprocess.run(
            WAYS[way], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        assert list((share / "storage").iterdir()) == []

    said = ended.stderr + ended.stdout
    assert ended.returncode == 78, said
    assert f"STORAGE_DIR {share / 'storage'} is on a file system without Unix sockets" in said
    assert "Traceback" not in said

"""What commands work with: whose store it is, of which version, and what is read once somebody asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest

from app.cli import connection
from app.cli.connection import Connection
from eventvault import data_folders
from eventvault.errors import InvalidSettings, ServiceRunning
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc import wire
from tests.service import PROJECT


@pytest.fixture
def environment(settings_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in settings_environment.items():
        monkeypatch.setenv(name, value)
    return settings_environment


def test_a_command_has_one_connection_for_all_that_it_asks(settings: Settings, store: MemoryStore) -> None:
    outer = click.Context(click.Command("outer"), obj=Connection(settings, store))
    with click.Context(click.Command("inner"), parent=outer):
        assert connection.current_store() is store
        assert connection.current_settings() is settings
    with click.Context(click.Command("other")):
        assert connection.current_connection() is connection.current_connection()


def test_nothing_is_read_before_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "none")
    with click.Context(click.Command("any")):
        assert connection.current_connection()
        with pytest.raises(InvalidSettings):
            connection.current_store()


def test_a_store_of_another_service_version_is_not_asked(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hello = wire.StoreHello(wire.PROTOCOL + 1, "9.9.9", 1, "", "service")
    monkeypatch.setattr(Spawner, "hello", lambda _: hello)
    with pytest.raises(ServiceRunning, match=r"is of EventVault 9\.9\.9"):
        assert Connection().store


def test_a_store_of_another_version_that_a_command_started_is_ended(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(Spawner, "hello", lambda _: wire.StoreHello(wire.PROTOCOL + 1, "9.9.9", 1, "", "command"))
    monkeypatch.setattr(Spawner, "end", lambda _, service: ended.append(service))
    assert Connection().store
    assert ended == [""]


PROGRAM = """
import os
import app.cli.owner, eventvault.file_modes, eventvault.folder_abilities, eventvault.store.rpc.client
from app.cli.connection import Connection
from eventvault.errors import EventVaultError

os.setgroups([])  # all modules are loaded: the other user may not be able to read the project
os.setgid(12345)
os.setuid(12345)
try:
    Connection().store
except EventVaultError as error:
    print(f"{error.code}: {error.message} HINT: {error.hint}")
"""


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("place", ["folder", "socket", "above"])
def test_another_user_is_told_whose_store_it_is(place: str, settings_environment: dict[str, str]) -> None:
    with TemporaryDirectory(dir="/tmp") as above:
        base = Path(above) / "data"
        folders = {name: str(base / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
        for folder in folders.values():
            Path(folder).mkdir(parents=True)
        (base / "STORAGE_DIR" / data_folders.SOCKET).touch(mode=0o600)
        Path(above).chmod(0o700 if place == "above" else 0o755)
        (base / "STORAGE_DIR").chmod(0o700 if place == "folder" else 0o755)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**settings_environment, **folders, "PATH": "/usr/bin:/bin"},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.startswith(f"forbidden: {folders['STORAGE_DIR']} belongs to user root, and only that user")
    assert "sudo -u root flask …" in done.stdout
    assert "docker-compose exec app flask …" in done.stdout

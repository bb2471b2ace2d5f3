"""A command that is run as root becomes the owner of BACKUP_DIR before it makes a file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.cli.owner import become_owner
from eventvault.errors import InvalidSettings
from eventvault.settings import PROJECT, Settings
from tests.stores import folders_of

PROGRAM = """
import os, sys
from eventvault.settings import load
from app import serving
from app.cli.owner import become_owner
serving.load_settings(become_owner)
print(os.getresuid(), os.getresgid(), os.getgroups(), os.environ["HOME"])
"""

needs_root = [pytest.mark.root, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]


@pytest.fixture
def owned(settings_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of an installation whose folders belong to user 12345."""
    for folder in (tmp_path, *folders_of(settings_environment)):
        folder.mkdir(exist_ok=True)
        if os.getuid() == 0:
            os.chown(folder, 12345, 12346)
    return {**os.environ, **settings_environment, "PYTHONPATH": str(PROJECT)}


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("missing", [(), ("RESTORE_DIR",), ("RESTORE_DIR", "STORAGE_DIR")])
def test_root_becomes_the_owner_and_what_it_makes_is_the_owners(
    owned: dict[str, str], missing: tuple[str, ...]
) -> None:
    for name in missing:
        Path(owned[name]).rmdir()
    for folder in Path(owned["BACKUP_DIR"]).parents:
        if folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)

    done = subprocess.run([sys.executable, "-c", PROGRAM], env=owned, capture_output=True, text=True, check=False)

    users = "(12345, 12345, 12345) (12346, 12346, 12346) []"
    assert done.stdout.split("\n")[0] == f"{users} {tempfile.gettempdir()}", done.stderr
    for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"):
        assert Path(owned[name]).stat().st_uid == 12345


class Calls(list[str]):
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, user: int, error: int | None = None) -> None:
        super().__init__()
        monkeypatch.setattr(os, "geteuid", lambda: user)
        for name in ("setgroups", "setgid", "setuid"):
            monkeypatch.setattr(os, name, lambda value, name=name: self._called(name, value, error))

    def _called(self, name: str, value: object, error: int | None) -> None:
        self.append(f"{name} {value}")
        if error is not None and name == "setuid":
            raise OSError(error, os.strerror(error))


@pytest.fixture
def backups_of_another(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings.backup_dir.mkdir()
    status = settings.backup_dir.stat()
    other = os.stat_result((*status[:4], 12345, 12346, *status[6:10]))
    monkeypatch.setattr(Path, "stat", lambda _, **__: other)
    return settings


def test_an_ordinary_user_stays_what_it_is(backups_of_another: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, user=1000)
    become_owner(backups_of_another)
    assert calls == []


def test_the_groups_go_first_as_only_root_may_set_them(
    backups_of_another: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, user=0)
    monkeypatch.setenv("HOME", "/root")
    become_owner(backups_of_another)
    assert calls == ["setgroups []", "setgid 12346", "setuid 12345"]
    assert os.environ["HOME"] == tempfile.gettempdir()


def test_a_user_that_this_user_namespace_lacks_cannot_be_become(
    backups_of_another: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Calls(monkeypatch, user=0, error=errno.EINVAL)
    become_owner(backups_of_another)


def test_a_root_without_the_right_to_do_so_is_told_how_to_run_the_command(
    backups_of_another: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Calls(monkeypatch, user=0, error=errno.EPERM)
    with pytest.raises(InvalidSettings, match="cannot become user 12345") as caught:
        become_owner(backups_of_another)
    assert "--user 12345:12346" in caught.value.hint


@pytest.mark.parametrize("exists", [True, False])
def test_where_root_owns_the_backups_or_there_are_none_it_stays_root(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    if exists and os.getuid() != 0:
        pytest.skip("needs root")
    if exists:
        settings.backup_dir.mkdir()
    calls = Calls(monkeypatch, user=0)
    become_owner(settings)
    assert calls == []

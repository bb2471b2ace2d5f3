"""A copy of an installation that goes on elsewhere: in the same generation, with other events."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.settings import Settings
from tests.restoring import put
from tests.stores import running_service


class Copied:
    """The installation of `settings` with the events shared-0 and shared-1, and a copy of both of its folders."""

    def __init__(self, settings: Settings, copy: Settings) -> None:
        self.settings = settings
        self._copy = copy
        with running_service(settings) as service:
            put(service, 2, "shared")
        for ours, theirs in ((settings.storage_dir, copy.storage_dir), (settings.backup_dir, copy.backup_dir)):
            shutil.copytree(ours, theirs, dirs_exist_ok=True)

    @property
    def own(self) -> Path:
        """The database of the installation once `exchange` has replaced it."""
        return self.settings.storage_dir.with_name("own")

    def exchange(self, events: int) -> None:
        """Put the database of the copy, with so many more events, into the place of that of the installation."""
        with running_service(self._copy) as service:
            put(service, events, "elsewhere")
        self.settings.database.rename(self.own)
        shutil.copytree(self._copy.database, self.settings.database)

    def archive(self, events: int) -> Path:
        """Copy an archive with so many more events of the copy to the archives of the installation; return its path."""
        with running_service(self._copy) as service:
            put(service, events, "elsewhere")
            archive = Path(service.create_backup("elsewhere").backup.path)
        return Path(shutil.copy2(archive, self.settings.backup_dir))

    def journal(self, events: int) -> None:
        """Copy the journal of the copy, with so many more events, into that of the installation."""
        with running_service(self._copy) as service:
            put(service, events, "elsewhere")
            for segment in service.journal.folder.segments()[0]:
                ours = self.settings.backup_dir / segment.path.relative_to(self._copy.backup_dir)
                if not ours.exists():
                    shutil.copy2(segment.path, ours)


@pytest.fixture
def copied(settings_with: Callable[..., Settings], tmp_path: Path) -> Copied:
    own = {"AUTO_RECOVER": "true", "JOURNAL_INTERVAL": "3600000"}
    elsewhere = {"STORAGE_DIR": str(tmp_path / "copy" / "storage"), "BACKUP_DIR": str(tmp_path / "copy" / "backups")}
    return Copied(settings_with(own), settings_with({**own, **elsewhere}))

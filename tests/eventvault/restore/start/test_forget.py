"""A registry with very many generations is opened, backed up and restored elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventvault.archive import reader
from eventvault.database.generation import Generation
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from tests.restoring import drafts, generation, ids
from tests.stores import running_service

pytestmark = pytest.mark.slow

FOLDERS = {"STORAGE_DIR": "s", "BACKUP_DIR": "b", "RESTORE_DIR": "r"}


def test_backups_never_fail_over_the_number_of_restores(
    settings: Settings, settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        first, archived = service.create_backup().backup.name, generation(service)
        service.append(drafts(2, "later"))
        assert service.journal.flush()
        service.restore(first)
        registry = service.bus.registry
        assert registry is not None
        others = [Generation(f"{n:016x}", archived, 3, "restored" * 25, n) for n in range(1, 25_000)]
        registry.begin_generation(
            msgspec.structs.replace(registry.identity, generations=(*registry.identity.generations, *others))
        )
    with running_service(settings) as service:
        registry = service.bus.registry
        assert registry is not None
        known = registry.identity.by_id()
        assert len(known) < 5000
        assert {archived, registry.identity.generation} <= known.keys()
        made = service.create_backup().backup
        assert len(reader.read_manifest(Path(made.path)).generations) == len(known)
        assert service.plan_restore(Moment(sequence=7, generation=archived))["sequence"] == 7
        service.restore(made.name)
        service.undo()
        assert service.status()["problems"] == []
    elsewhere = settings_with({name: str(tmp_path / "other" / folder) for name, folder in FOLDERS.items()})
    with running_service(elsewhere) as other:
        shutil.copy(made.path, elsewhere.backup_dir / "arrived.tar.gz")
        other.restore("arrived.tar.gz")
        assert ids(other) == [f"live-{number}" for number in range(5)]

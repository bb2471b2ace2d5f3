"""What took effect is a success in the list, though its store was killed and nobody sent the request again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventvault import data_folders
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import RUNNING, OperationRecords
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip
from tests.stores import running_service

pytestmark = pytest.mark.slow


def of_kind(service: StoreService, kind: str) -> OperationEntry:
    (entry,) = service.list_operations(OperationQuery(kinds=[kind]))
    return entry


def killed_while_it_made_a_backup(settings: Settings) -> tuple[str, Path]:
    """As a store leaves it that is killed once the archive has its name. Returns the id of the operation, too."""
    with running_service(settings) as service:
        service.append(drafts(2))
        path = Path(service.create_backup().backup.path)
        operation = of_kind(service, "create").id
    records = OperationRecords(settings.storage_dir)
    record = records.read(operation)
    assert record is not None
    nothing = msgspec.Raw(b"null")
    records.write(operation, msgspec.structs.replace(record, state=RUNNING, done=False, answer=nothing, ended_at=None))
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    return operation, path


@pytest.mark.parametrize(
    ("archive", "state"), [("there", "succeeded"), ("gone", "interrupted"), ("damaged", "interrupted")]
)
def test_a_backup_whose_store_was_killed_is_what_the_folder_shows(settings: Settings, archive: str, state: str) -> None:
    operation, path = killed_while_it_made_a_backup(settings)
    match archive:
        case "gone":
            path.unlink()
        case "damaged":
            flip(path, 1000)

    with running_service(settings) as service:
        processes.wait_until(lambda: service.get_operation(operation).state not in ("queued", "running"), "it goes on")
        entry = service.get_operation(operation)
        assert entry.state == state, entry.error
        assert (entry.error is None) == (state == "succeeded")
        if state == "succeeded":
            (backup,) = service.list_backups()
            assert (backup.name, backup.origin, backup.problem) == (path.name, "created", None)
            assert backup.verified is not None

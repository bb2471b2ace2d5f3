"""Health names small files that were damaged, until somebody has looked at them."""

from __future__ import annotations

import pytest

from eventvault import data_folders
from eventvault.settings import Settings
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("spoil", [b"", b"\xff\xfe", b"{", b"\0" * 4096], ids=["empty", "no text", "cut", "zeros"])
@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [(data_folders.CATALOGUE, "catalogue_damaged", "audit"), (data_folders.ANNOTATIONS, "file_damaged", None)],
)
def test_a_damaged_list_of_pins_is_named_until_its_copy_is_removed_and_no_pin_is_lost(
    settings: Settings, spoil: bytes, file: str, code: str, reason: str | None
) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        name = service.create_backup().backup.name
        service.pin_backup(name, pinned=True, reason="audit")
    (settings.backup_dir / file).write_bytes(spoil)

    for _start in range(2):
        with running_service(settings) as service:
            (problem,) = service.status()["problems"]
            assert (problem["code"], f"{file}.damaged" in problem["message"]) == (code, True)
            (entry,) = service.list_backups()
            assert (entry.name, entry.origin, entry.pinned) == (name, "created", True)
            assert entry.pin is not None
            assert entry.pin.reason == reason
    with running_service(settings) as service:
        (settings.backup_dir / f"{file}.damaged").unlink()
        assert service.status()["status"] == "ok"


def test_a_damaged_note_of_what_archives_share_is_named(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        service.create_backup()
    path = settings.backup_dir / data_folders.SHARED_RUNS
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 3'))

    with running_service(settings) as service:
        (problem,) = service.status()["problems"]
        assert (problem["code"], f"{path}.damaged" in problem["message"]) == ("shared_runs_damaged", True)
        assert service.create_backup().backup.problem is None


@pytest.mark.parametrize("folder", ["storage_dir", "backup_dir"])
def test_a_damaged_id_is_named_and_made_anew(settings: Settings, folder: str) -> None:
    with running_service(settings) as service:
        identity = service.catalogue.installation
    path = getattr(settings, folder) / data_folders.CHECKED_INSTALLATION
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 3'))

    with running_service(settings) as service:
        assert service.catalogue.installation == identity
        (problem,) = service.status()["problems"]
        assert (problem["code"], f"{path}.damaged" in problem["message"]) == ("installation_damaged", True)

"""After an archive of any hostile kind the store does all that it did before.

`tests/crash/test_hostile_series.py` does it with real processes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.error_codes import ANSWERS
from eventvault import data_folders
from eventvault.database.values import ScanQuery
from eventvault.errors import EventVaultError
from eventvault.events.event import summary_of
from eventvault.settings import load
from eventvault.store.service import StoreService
from tests.hostile_archives import Kind, all_kinds
from tests.restoring import drafts, generation, leftovers
from tests.schedule import series_seed
from tests.stores import folders_beneath, running_service

NAME = "hostile.tar.gz"
REFUSED = {"archive_alien", "archive_damaged", "archive_incomplete", "archive_too_new", "archive_unsafe"}
SHARE_BACKED_UP = 1 / 3
"""Of how many kinds that are restored the short form makes a backup too, and undoes it."""
KINDS = [
    *(pytest.param(kind, SHARE_BACKED_UP, id=kind.name) for kind in all_kinds() if not kind.slow),
    *(pytest.param(kind, 1.0, id=f"{kind.name}-long", marks=pytest.mark.soak) for kind in all_kinds()),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreService]:
    folders = folders_beneath(tmp_path_factory.mktemp("hostile"))
    with running_service(load({**folders, "MAX_BACKUPS": "3", "KEEP_UNDO": "1"})) as service:
        service.append(drafts(3))
        service.create_backup()
        yield service


def refusal(service: StoreService) -> EventVaultError | None:
    """Restore the archive; return why that was refused."""
    try:
        service.restore(NAME)
    except EventVaultError as error:
        return error
    return None


def check_all_goes_on(service: StoreService) -> None:
    """Post, list, filter by type, read all, write the journal up to the last event."""
    mark = os.urandom(6).hex()
    last = service.append(drafts(3, mark, type=mark)).last_sequence
    page = service.scan(ScanQuery(after=last - 3))
    assert [event_id.rpartition("-")[0] for event_id in ids_of(page.events)] == [mark] * 3
    assert len(service.scan(ScanQuery(type=mark)).events) == 3
    with service.bus.using() as registry:
        assert sum(1 for _ in registry.events(0, last)) == last
    assert service.journal.flush()
    assert service.journal.folder.last_named(generation(service)) == last


def ids_of(events: list[bytes]) -> list[str]:
    return [summary_of(event)["id"] for event in events]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), KINDS)
def test_after_any_hostile_archive_everything_goes_on(
    kind: Kind, share: float, service: StoreService, tmp_path: Path
) -> None:
    """The next kind replaces what is not undone."""
    is_backed_up = random.Random(f"{series_seed()} {kind}").random() < share
    archive = service.settings.backup_dir / NAME
    made = tmp_path / NAME
    kind.make(made)
    made.replace(archive)
    before = service.scan(ScanQuery(limit=1)).last_sequence
    refused = refusal(service)
    try:
        if refused is not None:
            assert refused.code in REFUSED, refused
            assert refused.message
            assert refused.hint
            assert data_folders.RESTORING_PREFIX not in f"{refused}", "the message names a temporary folder"
            assert service.scan(ScanQuery(limit=1)).last_sequence == before
        check_all_goes_on(service)
        if refused is None and is_backed_up:
            service.create_backup()
            service.undo()
            assert service.scan(ScanQuery(limit=1)).last_sequence == before
            check_all_goes_on(service)
            service.create_backup()
    finally:
        archive.unlink()
    assert not leftovers(service.settings.storage_dir, service.settings.backup_dir)


def test_all_refusals_are_answers_to_a_bad_request() -> None:
    assert {ANSWERS[code].status for code in REFUSED} == {422}

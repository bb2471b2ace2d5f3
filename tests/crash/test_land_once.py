"""What changes something lands once, though the store is killed before it answers and the next one is asked again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from eventvault.database.values import ScanQuery
from eventvault.errors import BackupNotFound
from eventvault.keyed_request import KeyedRequest
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.rpc.client import StoreClient
from tests.crash.store_killed_once import MARK
from tests.restoring import drafts, ids
from tests.stores import running_client

COMMAND = [sys.executable, "-m", "tests.crash.store_killed_once"]

CATALOGUE = "eventvault.backups.catalogue:Catalogue"
KEYED_APPENDS = "eventvault.store.owners.keyed_appends:KeyedAppends"
OPERATIONS = "eventvault.operations.registry:OperationRegistry"


@pytest.fixture
def client_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], StoreClient]]:
    """Makes a client whose store is killed at the spot that it is called with, with three events in it."""
    with ExitStack() as stack:

        def make(spot: str) -> StoreClient:
            monkeypatch.setenv("EVENTVAULT_TEST_KILL_AT", spot)
            client = stack.enter_context(running_client(settings, COMMAND))
            client.append(drafts(3))
            return client

        yield make


@contextmanager
def killed_in_between(client: StoreClient, settings: Settings) -> Iterator[None]:
    """The store that answers afterwards is another one than before."""
    before = client.status()["store"]["pid"]
    yield
    assert (settings.storage_dir / MARK).exists(), "the store was not killed"
    assert client.status()["store"]["pid"] != before


@pytest.mark.parametrize(
    "spot",
    [
        pytest.param(f"before {CATALOGUE}.record_created", id="the archive has its name"),
        pytest.param(f"after {CATALOGUE}.record_created", id="the archive is in the catalogue"),
        pytest.param(f"after {OPERATIONS}.run", id="the answer is recorded"),
    ],
)
def test_a_backup_is_made_once(client_killed: Callable[[str], StoreClient], settings: Settings, spot: str) -> None:
    client = client_killed(spot)

    with killed_in_between(client, settings):
        made = client.create_backup("once").backup

    assert client.list_backups() == [made]
    assert (made.events, made.label, made.origin, made.problem) == (3, "once", "created", None)
    assert made.verified
    assert made.digest
    assert client.create_backup("once").backup.name != made.name, "another call makes another backup"


@pytest.mark.parametrize(
    "spot",
    [
        pytest.param(f"before {KEYED_APPENDS}._begin", id="nothing is written"),
        pytest.param(f"before {KEYED_APPENDS}._end", id="the events are written"),
    ],
)
def test_events_of_a_request_with_a_key_are_stored_once(
    client_killed: Callable[[str], StoreClient], settings: Settings, spot: str
) -> None:
    client = client_killed(spot)
    request = KeyedRequest(b"0123456789abcdef", "content")

    with killed_in_between(client, settings):
        first = client.append(drafts(2, "keyed"), request)
    again = client.append(drafts(2, "again"), request)

    assert (again.results, again.last_sequence) == (first.results, first.last_sequence)
    assert again.ids == ["keyed-0", "keyed-1"]
    assert ids(client) == ["live-0", "live-1", "live-2", "keyed-0", "keyed-1"]


def test_a_backup_that_had_no_name_yet_is_begun_anew(
    client_killed: Callable[[str], StoreClient], settings: Settings
) -> None:
    client = client_killed("after eventvault.operations.operation:Operation.note")

    with killed_in_between(client, settings):
        made = client.create_backup().backup

    assert client.list_backups() == [made]


def test_a_delete_that_took_effect_succeeds(client_killed: Callable[[str], StoreClient], settings: Settings) -> None:
    client = client_killed(f"after {CATALOGUE}.remove")
    name = client.create_backup().backup.name

    with killed_in_between(client, settings):
        client.delete_backup(name, force=True)

    assert client.list_backups() == []
    with pytest.raises(BackupNotFound):
        client.delete_backup(name, force=True)


def test_a_delete_that_did_not_take_effect_is_done_by_the_next_store(
    client_killed: Callable[[str], StoreClient], settings: Settings
) -> None:
    client = client_killed(f"before {CATALOGUE}.remove")
    name = client.create_backup().backup.name

    with killed_in_between(client, settings):
        client.delete_backup(name, force=True)

    assert client.list_backups() == []


@pytest.mark.parametrize("spot", ["before", "after"])
def test_a_prune_is_completed_and_names_what_the_store_removed_that_was_killed(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, spot: str
) -> None:
    monkeypatch.setenv("EVENTVAULT_TEST_KILL_AT", f"{spot} {CATALOGUE}.remove_all")
    settings = settings_with({"MAX_BACKUPS": "1"})
    with running_client(settings, COMMAND) as client:
        client.append(drafts(3))
        first = client.create_backup("first").backup
        client.pin_backup(first.name, pinned=True)
        newest = client.create_backup("second").backup.name
        client.pin_backup(first.name, pinned=False)

        with killed_in_between(client, settings):
            pruned = client.prune_backups()

        assert (pruned["removed"], pruned["freedBytes"]) == ([first.name], first.unique_bytes)
        assert [backup.name for backup in client.list_backups()] == [newest]


@pytest.mark.parametrize("spot", ["record_verified", "set_pinned"])
def test_verifying_and_pinning_answer_as_if_nothing_had_happened(
    client_killed: Callable[[str], StoreClient], settings: Settings, spot: str
) -> None:
    client = client_killed(f"after {CATALOGUE}.{spot}")
    name = client.create_backup().backup.name

    with killed_in_between(client, settings):
        verified, pinned = client.verify_backup(name), client.pin_backup(name, pinned=True)

    assert verified.verified
    assert pinned.pinned
    assert client.list_backups() == [pinned]


def test_an_upload_is_entered_once(client_killed: Callable[[str], StoreClient], settings: Settings) -> None:
    client = client_killed(f"after {CATALOGUE}.record_uploaded")
    temporary = settings.backup_dir / ".upload.1.tmp"
    shutil.copy(client.create_backup().backup.path, temporary)

    with killed_in_between(client, settings):
        entry = client.adopt_upload(str(temporary), "theirs.tar.gz")

    assert (entry.name, entry.origin) == ("theirs.tar.gz", "uploaded")
    assert [backup.name for backup in client.list_backups()].count("theirs.tar.gz") == 1


def test_events_are_copied_to_the_present_once(client_killed: Callable[[str], StoreClient], settings: Settings) -> None:
    client = client_killed("after eventvault.store.owners.event_log:EventLogOwner.append")
    name = client.create_backup().backup.name
    client.append(drafts(2, "more"))
    past = client.resolve_moment(Moment())
    client.restore(name)

    with killed_in_between(client, settings):
        result = client.copy_events_to_present(ScanQuery(generation=past.generation, upto=past.sequence))

    assert (result.matched, result.renamed) == (5, 0)
    assert ids(client) == ["live-0", "live-1", "live-2", "more-0", "more-1"]


def test_a_restore_is_staged_once(client_killed: Callable[[str], StoreClient], settings: Settings) -> None:
    client = client_killed("after eventvault.restore.restorer:Restorer._stage")
    name = client.create_backup().backup.name

    with killed_in_between(client, settings):
        restored = client.restore(name, staged=True)

    assert (restored.staged, restored.undo, restored.notes) == (True, None, []), "it replaced no other staged restore"
    assert client.status()["jobs"]["restore"]["staged"]["source"] == name


@pytest.mark.parametrize("method", ["restore", "undo"])
def test_a_restore_lands_once(client_killed: Callable[[str], StoreClient], settings: Settings, method: str) -> None:
    client = client_killed(f"after eventvault.store.owners.restores:RestoresOwner.{method}")
    name = client.create_backup().backup.name
    client.append(drafts(1, "more"))

    if method == "restore":
        with killed_in_between(client, settings):
            client.restore(name)
        assert ids(client) == ["live-0", "live-1", "live-2"]
        assert len(client.list_undo()) == 1
    else:
        client.restore(name)
        with killed_in_between(client, settings):
            client.undo()
        assert ids(client) == ["live-0", "live-1", "live-2", "more-0"]
        assert len(client.list_undo()) == 1

"""The stores that the contract tests ask: in memory, in the process that owns LevelDB, behind the socket, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import create_app
from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports.store import Store
from tests.served import remote_store, served
from tests.stores import READY_CHORES, running_client, running_service

KINDS = ["memory", "owner", "http", pytest.param("process", marks=pytest.mark.process)]

_KEYS = "a key stands for the bytes of a request, and not for what its sender says of them"
_GENERATIONS = "a generation that nobody knows is a moment that is not there"
_PATHS = "the paths of the service are of no use elsewhere"
_INSTANTS = "the API has milliseconds"
_FILES = "files are written by operations of the API alone"
NOT_OVER_HTTP = {
    "test_a_backup_is_listed_and_can_be_read": _PATHS,
    "test_a_backup_that_is_not_there_is_not_found": _PATHS,
    "test_a_call_that_waits_is_an_operation_of_its_caller": "the service knows the caller by the token",
    "test_a_deed_is_its_callers_and_has_its_operations_id": "the service knows the caller by the token",
    "test_one_that_nobody_waits_for_is_in_it_too": "the service knows the caller by the token",
    "test_changes_that_are_no_operations_are_deeds_too": "the service knows the caller by the token",
    "test_another_process_notes_its_deeds": "a service notes its deeds by itself",
    "test_refused_sign_ins_are_taken": "a service counts them by itself",
    "test_a_generation_that_nobody_knows_is_refused_whatever_it_is_called": _GENERATIONS,
    "test_a_good_backup_verifies_and_a_damaged_one_is_refused_and_marked": "the answer to a backup has no `checked`",
    "test_a_histogram_ends_with_the_last_event_that_it_is_asked_for": "a histogram is of a time, not of sequences",
    "test_a_histogram_of_an_earlier_generation_has_its_events": "a histogram is of a time, not of sequences",
    "test_a_new_key_leaves_the_backups_proven": "a key is made on the machine of the service",
    "test_a_pin_has_a_reason_and_an_end_and_the_next_one_replaces_it": _INSTANTS,
    "test_a_request_that_is_repeated_with_its_key_gets_the_first_answer": _KEYS,
    "test_a_restore_rewinds_the_keys_with_their_events_and_an_undo_brings_them_back": _KEYS,
    "test_a_staged_restore_is_shown_and_whatever_drops_it_says_so": _INSTANTS,
    "test_an_export_is_a_file_of_the_events_at_a_moment": _FILES,
    "test_an_export_of_a_superseded_generation_has_its_events": _FILES,
    "test_an_upload_is_entered_under_its_name_once": "what is sent stays where it is",
    "test_the_name_of_an_archives_copy_is_no_generation": _FILES,
    "test_the_restore_of_a_moment_rewinds_the_keys_to_it": _KEYS,
    "test_two_generations_share_what_was_there_when_they_forked": "the timeline has the generations and their forks",
    "test_a_wait_for_kafka_ends_in_time": "over HTTP a post itself waits for Kafka",
    "test_types_are_counted_and_the_most_frequent_comes_first": "a type with a control character cannot be posted",
}
"""Test → why HTTP cannot say what it asks."""


@contextmanager
def _running(kind: str, settings: Settings) -> Iterator[Store]:
    if kind == "memory":
        settings.backup_dir.mkdir(parents=True)
        yield MemoryStore(settings.backup_dir)
    elif kind == "owner":
        with running_service(settings) as service:
            yield service
    elif kind == "http":
        settings.backup_dir.mkdir(parents=True)
        app = create_app(settings, MemoryStore(settings.backup_dir), shared_seconds=0.0)
        with served(app) as url, remote_store(url) as remote:
            yield remote
    else:
        with running_client(settings, READY_CHORES) as client:
            yield client


@pytest.fixture(autouse=True)
def can_be_said(request: pytest.FixtureRequest) -> None:
    """Skip what HTTP cannot say."""
    kind = getattr(request.node, "callspec", None)
    name = request.node.originalname
    if kind is not None and "http" in kind.params.values() and name in NOT_OVER_HTTP:
        pytest.skip(NOT_OVER_HTTP[name])


@pytest.fixture(params=KINDS)
def empty_store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    """A store of the test's own."""
    with _running(request.param, settings) as store:
        yield store


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests of a module share: there are events and backups of other tests in it."""
    folder: Path = tmp_path_factory.mktemp("shared")
    names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    with _running(request.param, load({name: str(folder / value) for name, value in names.items()})) as store:
        yield store

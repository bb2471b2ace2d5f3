"""What a client says whose store ended and that finds no other: whether the request may have taken effect."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from eventvault import clock
from eventvault.errors import OutcomeUnknown, StoreUnavailable
from eventvault.events import event
from eventvault.rpc import frames
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient

pytestmark = pytest.mark.slow


class NoStore:
    """Stands for a Spawner whose stores do not start."""

    failure = ""

    def __init__(self, folder: Path) -> None:
        self._socket_path = folder / "store.sock"

    def connect(self, timeout: float) -> socket.socket:
        return frames.connect(self._socket_path, timeout)

    def ensure_started(self, deadline: float) -> None:
        pass


@pytest.fixture
def client(tmp_path: Path) -> Iterator[StoreClient]:
    client = StoreClient(cast(Spawner, NoStore(tmp_path)), patience=0.1)
    yield client
    client.close()


@pytest.fixture
def dying_store(tmp_path: Path) -> Iterator[list[bytes]]:
    """A store that ends once it has read a request; the requests."""
    requests: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "store.sock"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(frames.receive(connection))
            (tmp_path / "store.sock").unlink()

    thread = threading.Thread(target=serve)
    thread.start()
    yield requests
    thread.join()
    listener.close()


def drafts() -> list[Any]:
    return [event.draft({"type": "t"}, clock.now())]


def test_a_request_that_was_sent_may_have_taken_effect(client: StoreClient, dying_store: list[bytes]) -> None:
    with pytest.raises(OutcomeUnknown):
        client.append(drafts())
    assert len(dying_store) == 1


def test_another_change_may_have_taken_effect_too(client: StoreClient, dying_store: list[bytes]) -> None:
    with pytest.raises(OutcomeUnknown):
        client.create_backup("label")


def test_a_question_changes_nothing(client: StoreClient, dying_store: list[bytes]) -> None:
    with pytest.raises(StoreUnavailable):
        client.list_backups()


@pytest.mark.slow
def test_a_request_that_was_never_sent_took_no_effect(client: StoreClient) -> None:
    for ask in (lambda: client.append(drafts()), lambda: client.create_backup("label"), client.list_backups):
        with pytest.raises(StoreUnavailable):
            ask()


def test_a_connection_that_was_closed_before_the_request_took_no_effect(client: StoreClient, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "store.sock"))
        listener.listen()
        client.ensure()
        accepted, _ = listener.accept()
        accepted.close()
        (tmp_path / "store.sock").unlink()
    with pytest.raises(StoreUnavailable):
        client.append(drafts())

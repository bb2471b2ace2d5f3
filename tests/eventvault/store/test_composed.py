"""A store that is put together from the owners of its ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault.operations.registry import OperationRegistry
from eventvault.store.composed import ComposedStore
from eventvault.store.memory.kafka_control import MemoryKafkaControl
from eventvault.store.memory.problems import MemoryProblems
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports import methods
from eventvault.store.ports.kafka_control import KafkaControl
from eventvault.store.rpc.client import StoreClient


def test_a_port_without_an_owner_is_noticed_at_once() -> None:
    with pytest.raises(TypeError, match=r"nothing implements EventLog\.append"):
        ComposedStore(OperationRegistry(None), MemoryProblems())


def test_a_method_that_the_owner_lacks_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MemoryKafkaControl, "accept_loss")
    with pytest.raises(TypeError, match=r"nothing implements KafkaControl\.accept_loss"):
        MemoryStore(tmp_path)


def test_every_method_of_the_ports_is_a_method_of_every_store() -> None:
    for store in (ComposedStore, StoreClient):
        assert methods.ALL.keys() <= vars(store).keys()
    assert methods.ALL["accept_loss"].port is KafkaControl

"""`/api/kafka`: an operator accepts the loss of a stopped partition once."""

from __future__ import annotations

from flask.testing import FlaskClient

from eventvault.store.memory.store import MemoryStore

ADDRESS = "/api/kafka/partitions/{}/accept-loss"


def test_the_loss_of_a_stopped_partition_is_accepted_once(web: FlaskClient, store: MemoryStore) -> None:
    store.kafka_control.stopped_partitions = {1, 2}

    accepted = web.post(ADDRESS.format(2))
    again = web.post(ADDRESS.format(2))

    assert (accepted.status_code, accepted.json["success"], accepted.json["partition"]) == (202, True, 2)
    assert (again.status_code, again.json["code"]) == (409, "partition_not_stopped")
    assert store.kafka_control.stopped_partitions == {1}


def test_a_partition_number_out_of_range_is_not_found(web: FlaskClient) -> None:
    for number in ("-1", "x", str(2**63)):
        assert web.post(ADDRESS.format(number)).status_code == 404

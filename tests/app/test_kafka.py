"""`/api/kafka`: an operator accepts the loss of a stopped partition once."""

from __future__ import annotations

from flask.testing import FlaskClient

from eventvault.store.memory.store import MemoryStore

ADDRESS = "/api/kafka/partitions/{}/accept-loss"


def test_the_loss_of_a_stopped_partition_is_accepted_once(web: FlaskClient, store: MemoryStore) -> None:
    store.kafka_control.stopped_partitions = {("events", 1), ("events", 2)}

    accepted = web.post(ADDRESS.format(2))
    again = web.post(ADDRESS.format(2))

    assert (accepted.status_code, accepted.json["success"], accepted.json["partition"]) == (202, True, 2)
    assert (again.status_code, again.json["code"]) == (409, "partition_not_stopped")
    assert store.kafka_control.stopped_partitions == {("events", 1)}


def test_a_loss_is_accepted_of_the_topic_that_is_named(web: FlaskClient, store: MemoryStore) -> None:
    store.kafka_control.topics = ["shop-a.b_c", "shop"]
    store.kafka_control.stopped_partitions = {("shop-a.b_c", 2), ("shop", 2)}

    unnamed = web.post(ADDRESS.format(2))
    accepted = web.post(ADDRESS.format("shop-a.b_c/2"))
    again = web.post(ADDRESS.format("shop-a.b_c/2"))

    assert (unnamed.status_code, unnamed.json["code"]) == (409, "topic_not_named")
    assert (accepted.status_code, accepted.json["topic"], accepted.json["partition"]) == (202, "shop-a.b_c", 2)
    assert (again.status_code, again.json["code"]) == (409, "partition_not_stopped")
    assert store.kafka_control.stopped_partitions == {("shop", 2)}


def test_a_partition_number_out_of_range_and_no_name_of_a_topic_are_not_found(web: FlaskClient) -> None:
    for part in ("-1", "x", str(2**63), "events/-1", "events/x", "two%20words/1", "e" * 250 + "/1", "caf%C3%A9/1"):
        assert web.post(ADDRESS.format(part)).status_code == 404, part

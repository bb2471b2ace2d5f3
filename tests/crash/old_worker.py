"""What the worker of 0.1.0 does with Kafka: a member of the group runs a job, writes its result, commits its offset.

`python -m tests.crash.old_worker` takes jobs of the type `note` until SIGTERM, with the handlers of `job_handlers`.
"""

from __future__ import annotations

import os
import signal
import threading

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.crash.job_handlers import note
from worker.jobs import Job


def main() -> None:
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    servers = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0}
    consumer = Consumer({
        **servers, "group.id": os.environ["KAFKA_JOBS_GROUP"], "enable.auto.commit": False,
        "enable.auto.offset.store": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
    })  # fmt: skip
    producer = Producer({**servers, "enable.idempotence": True, "linger.ms": 0})
    consumer.subscribe([os.environ["KAFKA_JOBS_TOPIC"]])
    while not ending.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            run(message, producer)
            place = TopicPartition(message.topic() or "", message.partition() or 0, (message.offset() or 0) + 1)
            consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


def run(message: Message, producer: Producer) -> None:
    sent = msgspec.json.decode(message.value() or b"")
    result = note(Job(id=sent["id"], type=sent["type"], payload=sent["payload"]))
    outcome = {"id": sent["id"], "type": sent["type"], "state": "done", "worker": "old", "result": result}
    producer.produce(os.environ["KAFKA_RESULTS_TOPIC"], msgspec.json.encode(outcome), sent["id"].encode())
    producer.flush()


if __name__ == "__main__":
    main()

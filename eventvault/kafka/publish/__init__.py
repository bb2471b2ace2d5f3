"""Publishing: what is in the outbox goes to KAFKA_PUBLISH_TOPIC, in order per subject, at least once.

`messages` makes an event a Kafka message, `outbox_reader` reads what waits, `relay` sends it, in
the thread of `publisher`.
"""

"""Publishing: events in the outbox are sent to KAFKA_PUBLISH_TOPIC, in order per subject, at least once.

`outbox_reader` reads what waits, `messages` converts each event to a Kafka message, and `relay` sends it, in the thread
of `publisher`.
"""

"""Kafka in: events are taken from a topic, exactly once, and a monitor says how that goes.

This folder is the only place of the core that imports confluent_kafka. It knows the event and its rules, never the
store: where events go is a `sink` that is handed in, and where offsets come from is a `load`. No broker, at the
start or later, is a reason for an exception to leave this folder.
"""

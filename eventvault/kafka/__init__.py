"""Kafka input: consumes each event of a topic exactly once, and reports the state of the connection.

No other folder of the core imports `confluent_kafka`, and a missing broker raises nothing outside this folder. It knows
events but not the store: the caller passes in a `sink` for events and a `load` for offsets. `publish` sends events out,
`jobs` is the transport of jobs over topics.
"""

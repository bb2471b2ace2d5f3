"""The transport of jobs over Kafka: both ends, and how the dispatcher succeeds the workers of 0.1.0.

It knows the messages and ports of `eventvault.jobs`, but neither its machine nor its database. The worker's end is used
by processes that open no database.
"""

"""Events: the CloudEvents envelope, the schema of a valid event, HTTP bodies and list cursors.

It does no I/O and knows nothing of where events are stored.
"""

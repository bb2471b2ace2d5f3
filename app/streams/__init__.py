"""Streams of server-sent events: one thread of a worker writes them all, and a client's thread is free at once.

A source says what one stream sends; it never waits. `answer` begins a stream, `writer` sends it. Nothing here knows the
routes.
"""

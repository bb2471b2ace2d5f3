"""The command line, `flask --app wsgi …`: one module a group, one a command that is more than a call.

A command asks the store as the edge does, or starts one without Kafka, scheduler and auto-restore; it never begins a
service. With `--json` standard output holds one JSON object and nothing else, errors included.
"""

"""The command line, `flask --app wsgi …`: one module per group, and one per longer command.

A command asks the running store, or starts one without Kafka, scheduler and automatic restore. It never starts a
service. With `--json`, standard output holds one JSON object and nothing else, errors included.
"""

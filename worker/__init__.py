"""The job worker, `python -m worker`: takes jobs from Kafka, runs their handlers and writes the results back.

It opens no event database, and imports neither BackupManager nor the store; a handler reads the registry over HTTP, as
any other client does.
"""

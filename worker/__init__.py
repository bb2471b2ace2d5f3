"""The job worker, `python -m worker`: runs jobs in processes of their own, and says what became of them.

It opens no event database, and imports neither BackupManager nor the store; a handler reads the registry over HTTP, as
any other client does.
"""

"""The job worker, `python -m worker`: runs jobs in processes of their own, and reports their outcomes.

It opens no event database, and does not import the store. A handler reads the registry over HTTP, like any other
client.
"""

"""The worker: takes jobs from Kafka, runs their handlers and writes the results back. `python -m worker`.

It never initialises BackupManager and never opens the event database; what a handler needs of the registry it asks
for over HTTP, as any other client.
"""

"""The road back: an archive, or a foreign database, becomes the event database.

Everything here works on private copies beside the live data: the archive, a database found in place and the live
database are only read. What fails leaves nothing behind. Who swaps a finished database in is the store's business.

`foreign_*` takes over a LevelDB that another program wrote (docs/migration.md): `found` tells it from ours, `import`
reads it, `records` maps one record to one event with `attributes` and `json`, `report` says what came of it.
"""

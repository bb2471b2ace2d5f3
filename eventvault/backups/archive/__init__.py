"""The archive: how `backups/*.tar.gz` is written, read, checked and unpacked, and how foreign ones are taken in.

`writer` makes archives, `reader` takes only what `writer` makes, `foreign` takes any plain tar.gz of a LevelDB folder;
`docs/format.md` describes every byte. Paths and plain data in, plain data out, constant memory; every archive that is
read is hostile until proven otherwise. Imports nothing of the database, the catalogue or the restore.
"""

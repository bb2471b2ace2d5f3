"""The audit: who did what and what came of it, a line before each deed and one after it, each with the digest before.

`deeds` is what the doers call, `log` writes without stopping them, `chain` is the files in BACKUP_DIR. A layer low in
the core: it knows nothing of what a deed does. It imports nothing of the layers that do the deeds.
"""

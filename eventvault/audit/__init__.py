"""The audit: who did what, and the result. Each deed has a line before and after it, with the previous line's digest.

Callers use `deeds`; `log` writes without holding them up; `chain` is the files in BACKUP_DIR. The audit is a low layer
of the core: it does not know what a deed does, and imports nothing of the layers that do the deeds.
"""

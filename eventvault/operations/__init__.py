"""Long work that can be watched and cancelled: its handle, its records in `STORAGE_DIR/operations`, and their registry.

It is a low layer of the core: it does not know what an operation does, and imports nothing of the layers that do it.
"""

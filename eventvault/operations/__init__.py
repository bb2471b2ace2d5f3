"""Long work that can be watched and cancelled: its handle, its records in `STORAGE_DIR/operations`, and their registry.

A layer low in the core: it knows nothing of what an operation does. It imports nothing of the layers that do the work.
"""

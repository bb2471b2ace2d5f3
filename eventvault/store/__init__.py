"""The store: one process owns the database, and every other process reaches it through the same interface.

It wires the parts of the core together and is its top layer: no other folder of the core imports it.
"""

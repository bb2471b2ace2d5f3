"""The owners of the ports in the process that has the database: each implements one port over the parts of the core.

They translate and check; the work is done by the rooms below. They import neither the socket nor the process.
"""

"""The owners of the ports, in the process that owns the database: each implements one port over the core's parts.

They check and translate, and the layers below do the work. They import neither `rpc` nor `process`.
"""

"""The start of the service, before the database opens: finishes a swap, restores, recovers or imports.

It is the top of `restore`: neither `moments` nor `swap` imports it.
"""

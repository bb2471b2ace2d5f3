"""The ports of the store: one small protocol per concern, which is the contract of whoever implements it.

`store` composes them, `methods` reads what travels over the socket from their annotations. A port imports only the
values that it speaks of, and never an implementation.
"""

"""The ports of the store: one small protocol per concern, which is the contract of its implementations.

`store` composes them, `methods` reads from their annotations what travels over the socket. A port imports only the
values of its signatures and never an implementation.
"""

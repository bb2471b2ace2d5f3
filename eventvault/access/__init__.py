"""Who may do what: tokens, their scopes, and the files that remember them.

It decides and never asks: it knows no request, no route and no cookie. Its files lie outside the event database and
outside every archive, so no restore brings back a revoked token.
"""

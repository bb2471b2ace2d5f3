"""Who may do what: tokens, their scopes, and their files.

It knows no request, no route and no cookie. Its files lie outside the event database and outside every archive, so no
restore brings back a revoked token.
"""

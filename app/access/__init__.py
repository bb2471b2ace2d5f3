"""Decides who may send a request: by its origin, by its token, and by one table of the scopes that each route needs.

`eventvault.access` decides which tokens are valid; this package takes them from requests. gunicorn's master imports
`origin`, so this module imports no Flask until a request comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventvault.access.credential import Credential

CREDENTIAL = "eventvault.credential"
"""The key in the environ of a request under which the check stores the credential."""


def current_credential() -> Credential:
    """Return the credential of the current request. Where no token was ever made, everybody may do everything."""
    from flask import request

    credential: Credential = request.environ[CREDENTIAL]
    return credential

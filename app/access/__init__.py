"""Decides who may send a request: by its origin, by its token, and by one table of the scopes that each route needs.

`eventvault.access` decides which token counts; here requests are asked for theirs. gunicorn's master imports `origin`,
so this module imports no Flask until a request comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventvault.access.credential import Credential

CREDENTIAL = "eventvault.credential"
"""Where the check leaves it in the environ of a request."""


def present_credential() -> Credential:
    """Return whom the present request acts as. Everybody may everything where no token was ever made."""
    from flask import request

    credential: Credential = request.environ[CREDENTIAL]
    return credential

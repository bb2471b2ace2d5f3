"""Breaks a request off once its token was revoked, or its session has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import request

from app.client_socket import ClientSocket
from eventvault.errors import EventVaultError, TokenWrong

_MAY_GO_ON, _ERROR = "eventvault.may_go_on", "eventvault.ended_permission"

Permission = Callable[[], bool]


def end_without(permission: Permission | None, error: type[EventVaultError]) -> None:
    """Break off the current request soon after the permission is gone. None: it may go on in any case.

    error: the answer if its body is still being read then.
    Another server than gunicorn, such as `flask run`, ends streams only.
    """
    if permission is None:
        return
    request.environ[_ERROR] = error
    client: Any = request.environ.get("gunicorn.socket")
    if isinstance(client, ClientSocket):
        client.go_on_while(permission)
    else:
        request.environ[_MAY_GO_ON] = permission


def ended_permission() -> EventVaultError:
    """Return the answer to the current request, whose permission ended while its body was read."""
    error: type[EventVaultError] = request.environ.get(_ERROR, TokenWrong)
    return error(
        "the token or the session ended while the body arrived; nothing of it was stored",
        hint="send the whole request again with a token that is valid",
    )


def permission_of_request() -> Permission:
    """Return the function that says whether the current request may go on."""
    permission: Permission = request.environ.get(_MAY_GO_ON, _always)
    return permission


def _always() -> bool:
    return True

"""Ends what a request sends or reads once its token was revoked, or its session has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import request

from app.client_socket import ClientSocket

_MAY_GO_ON = "eventvault.may_go_on"

Permission = Callable[[], bool]


def end_without(permission: Permission | None) -> None:
    """Break off the present request soon after the permission is gone. None: it may go on in any case.

    Another server than gunicorn, such as `flask run`, ends streams only.
    """
    if permission is None:
        return
    client: Any = request.environ.get("gunicorn.socket")
    if isinstance(client, ClientSocket):
        client.go_on_while(permission)
    else:
        request.environ[_MAY_GO_ON] = permission


def permission_of_request() -> Permission:
    """Return what says whether the present request may go on."""
    permission: Permission = request.environ.get(_MAY_GO_ON, _always)
    return permission


def _always() -> bool:
    return True

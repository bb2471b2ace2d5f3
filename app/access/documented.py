"""Adds to the OpenAPI document, from the table of scopes, which token each request needs."""

from __future__ import annotations

import re

from apispec import APISpec

from app.access.table import NEEDS
from eventvault import scopes


def describe(spec: APISpec) -> None:
    """Add the kind of authentication, and to each request the scopes that it needs."""
    spec.components.security_scheme(
        "token", {"type": "http", "scheme": "bearer", "description": "A token that `flask tokens create` made."}
    )
    needs = {re.sub(r"<(\w+)>", r"{\1}", name): need for name, need in NEEDS.items()}
    for path, methods in spec.to_dict()["paths"].items():
        for method, request in methods.items():
            need = needs.get(f"{method.upper()} {path}")
            if need is None:
                continue
            without: list[dict[str, list[str]]] = [{}] if need.is_public or need.is_optional else []
            request["security"] = without if need.is_public else [*without, {"token": []}]
            if need.scopes:
                request["x-scope"] = [scope for scope in scopes.SCOPES if scope in need.scopes]

"""Security headers for browsers, on every answer, including those of the framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""RapiDoc puts styles and small images into its page. Scripts may come from this service only, as elsewhere."""

_PLAIN = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_OPENER = ("Cross-Origin-Opener-Policy", "same-origin")
_DASHBOARD = [*_PLAIN, ("Content-Security-Policy", _POLICY)]
"""Without the policy for openers: a browser would start another process for it before it paints (ADR 0054)."""
_EVERYWHERE = [*_DASHBOARD, _OPENER]
_DOCS = [*_PLAIN, _OPENER, ("Content-Security-Policy", _DOCS_POLICY)]
_NEVER_STORED = [*_EVERYWHERE, ("Cache-Control", "no-store")]
_OF_PATH = {"/": _DASHBOARD, "/docs/api": _DOCS}


class SecurityHeaders:
    """WSGI middleware that adds prepared header pairs. An `after_request` hook would cost more per request."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        extra = _OF_PATH.get(path) or (_NEVER_STORED if path.startswith("/api/") else _EVERYWHERE)

        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            cached = extra is _NEVER_STORED and any(name == "Cache-Control" for name, _ in headers)
            return start_response(status, [*headers, *(_EVERYWHERE if cached else extra)], *failure)

        return self._inner(environ, start)

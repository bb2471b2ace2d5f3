"""The headers that tell browsers what not to do, on every answer, those of the framework included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""RapiDoc writes its styles and small images into the page; scripts come from this service alone there too."""

_PLAIN = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]
_EVERYWHERE = [*_PLAIN, ("Content-Security-Policy", _POLICY)]
_DOCS = [*_PLAIN, ("Content-Security-Policy", _DOCS_POLICY)]
_NEVER_STORED = [*_EVERYWHERE, ("Cache-Control", "no-store")]


class SecurityHeaders:
    """WSGI middleware and no `after_request` hook: it adds ready pairs, which costs next to nothing a request."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        more = _NEVER_STORED if path.startswith("/api/") else _DOCS if path == "/docs" else _EVERYWHERE

        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            cached = more is _NEVER_STORED and any(name == "Cache-Control" for name, _ in headers)
            return start_response(status, [*headers, *(_EVERYWHERE if cached else more)], *failure)

        return self._inner(environ, start)

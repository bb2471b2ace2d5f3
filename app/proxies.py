"""Sets the address and the scheme of a request to those of the client, where TRUSTED_PROXIES name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eventvault.access.proxies import TrustedProxies

Application = Callable[..., Iterable[bytes]]


def behind_proxies(trusted: Iterable[str], inner: Application) -> Application:
    """Return a WSGI application whose `environ` names the client instead of the proxy; `inner` if none is trusted.

    trusted: as in TRUSTED_PROXIES.
    """
    proxies = TrustedProxies(trusted)
    if not proxies:
        return inner

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        client = proxies.client(
            environ.get("REMOTE_ADDR") or "",
            environ.get("HTTP_X_FORWARDED_FOR", ""),
            environ.get("HTTP_X_FORWARDED_PROTO", ""),
        )
        environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = client
        return inner(environ, start_response)

    return application

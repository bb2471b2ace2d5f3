"""The check `access` of `flask doctor`: who reaches the service, and whether that needs a token."""

from __future__ import annotations

from app.access.origin import is_loopback
from app.cli import text
from app.cli.doctor.line import DoctorLine, ok, warn, wrong
from app.cli.text import Times
from eventvault.doctor.facts import Access, Facts

_MAKE_TOKEN = "flask tokens create admin --scope admin"


def check_access(facts: Facts, times: Times) -> list[DoctorLine]:
    """Return a line about the address that the settings give the service, and about its tokens."""
    settings, access = facts.settings, facts.access or Access()
    if settings is None:
        return []
    address = f"{settings.host}:{settings.port}"
    if access.closed and not access.valid:
        return [wrong("access", f"{address} is closed, and no token is valid: nobody gets in", _MAKE_TOKEN)]
    if access.closed:
        valid = f"{text.counted(access.valid, 'token')} {'is' if access.valid == 1 else 'are'} valid"
        return [ok("access", f"{address} wants a token from everybody; {valid}")]
    if is_loopback(settings.host):
        return [ok("access", f"{address} answers only this machine")]
    if settings.allow_unauthenticated:
        found = f"{address} answers everybody who reaches it, without a token (ALLOW_UNAUTHENTICATED)"
        return [warn("access", found, _MAKE_TOKEN)]
    return [
        wrong(
            "access",
            f"{address} reaches beyond this machine, and there is no token: a start refuses it",
            f"{_MAKE_TOKEN}, or set HOST=127.0.0.1",
        )
    ]

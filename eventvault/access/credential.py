"""Who a request or a command acts as, and with which scopes."""

from __future__ import annotations

from dataclasses import dataclass, field

from eventvault import scopes as names
from eventvault.clock import Clock
from eventvault.operations.caller import OPEN, SHELL, Caller


@dataclass(frozen=True)
class Credential:
    """name: of the token, or of whoever acts without one. token_id: None without a token.

    expires: when the token ends, in microseconds; None: never. included: the scopes with all that they include. caller:
    the same for operations.
    """

    name: str
    token_id: str | None
    scopes: frozenset[str]
    expires: int | None = None
    included: frozenset[str] = field(init=False, repr=False, compare=False)
    caller: Caller = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "included", names.included_in(self.scopes))
        object.__setattr__(self, "caller", Caller(self.name))

    def may(self, scope: str) -> bool:
        return scope in self.included

    def has_expired(self, now: Clock) -> bool:
        """Return whether its token has expired. Reads the clock only if the token can expire."""
        return self.expires is not None and self.expires <= now()


EVERYBODY = Credential(OPEN, None, frozenset({names.ADMIN}))
"""Whoever reaches a service that is open because no token was ever made."""
COMMAND_LINE = Credential(SHELL, None, frozenset({names.ADMIN}))
NOBODY = Credential("nobody", None, frozenset())
"""A request without a token to a service that is closed."""

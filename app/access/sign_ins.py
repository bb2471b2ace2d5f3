"""Checks the tokens of requests and counts the wrong ones: after too many, an address gets 429."""

from __future__ import annotations

import logging

from eventvault.access.credential import Credential
from eventvault.access.refusals import RefusalCounter, Refusals
from eventvault.access.register import TokenRegister
from eventvault.access.throttle import Throttle
from eventvault.errors import TokenWrong, TooManyWrongTokens
from eventvault.store.ports.store import Store

log = logging.getLogger("eventvault.access")


class SignIns:
    """Checks tokens and counts the wrong ones. throttle: shared by all workers. Safe for many threads."""

    def __init__(self, tokens: TokenRegister, throttle: Throttle, store: Store) -> None:
        self._tokens = tokens
        self._throttle = throttle
        self._store = store
        self._refusals = RefusalCounter(self._report)

    def credential_of(self, token: str, address: str) -> Credential:
        """Return the token's credential. Raises TokenWrong, or TooManyWrongTokens after too many from this address."""
        try:
            return self._tokens.credential_of(token)
        except TokenWrong as error:
            raise self.refusal(error, address) from None

    def refusal(self, error: TokenWrong, address: str) -> TokenWrong | TooManyWrongTokens:
        """Count a wrong token, and return the error to answer."""
        seconds = self._throttle.note_wrong(address)
        self._refusals.note(address, blocked=seconds > 0)
        if not seconds:
            return error
        return TooManyWrongTokens(
            f"{error.message}; too many wrong ones came from this address",
            hint=f"wait {seconds} s before the next try; a right token passes at once",
            retryAfter=seconds,
        )

    def _report(self, refusals: Refusals) -> None:
        log.warning(
            "%s, %d with 429, from %s",
            refusals, refusals.blocked, ", ".join(address or "a Unix socket" for address in refusals.addresses),
        )  # fmt: skip
        counts = dict(refusals.addresses)
        others = refusals.count - sum(counts.values())
        for address, count in (counts | ({"others": others} if others else {})).items():
            self._store.count_refused_sign_ins(count, address)

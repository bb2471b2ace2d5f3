"""Takes tokens from requests: a wrong one is counted, and too many of them from one address are answered with 429."""

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
    """Safe for many threads. throttle: that of all workers."""

    def __init__(self, tokens: TokenRegister, throttle: Throttle, store: Store) -> None:
        self._tokens = tokens
        self._throttle = throttle
        self._store = store
        self._refusals = RefusalCounter(self._tell)

    def credential_of(self, token: str, address: str) -> Credential:
        """Return whose token this is. Raises TokenWrong, or TooManyWrongTokens after too many from this address."""
        try:
            return self._tokens.credential_of(token)
        except TokenWrong as error:
            raise self.refusal(error, address) from None

    def refusal(self, error: TokenWrong, address: str) -> TokenWrong | TooManyWrongTokens:
        """Count a wrong token, and return its answer."""
        seconds = self._throttle.note_wrong(address)
        self._refusals.note(address, blocked=seconds > 0)
        if not seconds:
            return error
        return TooManyWrongTokens(
            f"{error.message}; too many wrong ones came from this address",
            hint=f"wait {seconds} s before the next try; a right token passes at once",
            retryAfter=seconds,
        )

    def _tell(self, refusals: Refusals) -> None:
        log.warning(
            "%s, %d with 429, from %s",
            refusals, refusals.blocked, ", ".join(address or "a Unix socket" for address in refusals.addresses),
        )  # fmt: skip
        counts = dict(refusals.addresses)
        others = refusals.count - sum(counts.values())
        for address, count in (counts | ({"others": others} if others else {})).items():
            self._store.count_refused_sign_ins(count, address)

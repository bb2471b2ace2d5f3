"""Makes, replaces and revokes tokens, whether a store runs or not: for the command line and for the HTTP service."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from eventvault import clock, scopes, token_text
from eventvault.access.configured import ConfiguredTokens
from eventvault.access.joining import Joined
from eventvault.access.token_file import FileCondition, Revoked, Token, TokenFile
from eventvault.access.token_files import TokenFiles
from eventvault.access.uses import TokenUses
from eventvault.backups.audited import deeds_of
from eventvault.clock import Clock
from eventvault.errors import InvalidInput, InvalidSettings, NothingToRecover, TokenExists, TokenNotFound
from eventvault.settings import Settings

ROTATION_MICROSECONDS = 3_600_000_000
"""How long a token stays valid after it was replaced."""
MAX_TOKENS = 1000
LONGEST_LIFE = 100 * 366 * 86_400_000_000

_SPAN = re.compile(r"([1-9][0-9]{0,5})(m|h|d|w)")
_UNITS = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 7 * 86_400_000_000}
_OF_SETTINGS = "API_TOKENS"


@dataclass(frozen=True)
class MadeToken:
    """A token that was made. text: shown once. unwritten: why the copy in BACKUP_DIR could not be written.

    previous: the token that it replaces, with the time at which that token ends.
    """

    text: str
    token: Token
    previous: Token | None = None
    unwritten: str | None = None


@dataclass(frozen=True)
class RevokedTokens:
    """Tokens that were revoked. unwritten: as for `MadeToken`."""

    tokens: list[Revoked]
    unwritten: str | None = None


class TokenChanges:
    """Changes tokens. by: who does it. Methods raise EventVaultError; then nothing was changed."""

    def __init__(self, settings: Settings, now: Clock = clock.now) -> None:
        self._files = TokenFiles(settings)
        self._configured = ConfiguredTokens(settings)
        self._uses = TokenUses(settings.storage_dir)
        self._now = now
        self._deeds = deeds_of(settings)

    def list_tokens(self) -> list[dict[str, Any]]:
        """Return the tokens as the API shows them: those made here, oldest first, then those of the settings."""
        content, now = self._files.read().content, self._now()
        revoked_ids = set() if content is None else {token.id for token in content.revoked}
        configured, _ = self._configured.read_or_keep()
        tokens = [] if content is None else content.tokens
        return [
            *(self._describe(token, now) for token in tokens),
            *(
                self._row(token.id, token.name, scopes.text_of(token.scopes), _OF_SETTINGS)
                for token in configured
                if token.id not in revoked_ids
            ),
        ]

    def is_closed(self) -> bool:
        return self._files.read().closed or self._configured.is_set

    def has_valid(self) -> bool:
        """Return whether any token is valid now."""
        return any(not token["expired"] for token in self.list_tokens())

    def create(self, name: str, scope: str, *, by: str, expires: str | None = None) -> MadeToken:
        """Make a token. expires: a span such as `90d`, or an instant; None: never.

        Raises InvalidInput, or TokenExists if a valid token has the name.
        """
        with self._deeds.doing("token-create", by, name, details={"scope": scope[:100]}) as deed:
            made = self._create(name, scope, by=by, expires=expires)
            deed.results["id"] = made.token.id
            return made

    def _create(self, name: str, scope: str, *, by: str, expires: str | None) -> MadeToken:
        now = self._now()
        fields = _fields_of(name, scope, expires, now)
        if fields:
            raise InvalidInput(
                f"the token is not valid: {', '.join(fields)}", hint="`fields` says what is allowed", fields=fields
            )
        with self._files.changing() as joined:
            content = self._closed_content(joined)
            if any(token.name == name and _is_live(token, now) for token in content.tokens):
                raise TokenExists(
                    f"there is a token {name}; no other one was made",
                    hint=f"choose another name, or replace it: flask tokens rotate {name}",
                )
            text = token_text.new_token()
            token = _token(text, name, scopes.text_of(scopes.parse(scope)), now, by, expiry_of(expires, now))
            unwritten = self._write(content, [*content.tokens, token], content.revoked)
        return MadeToken(text, token, unwritten=unwritten)

    def rotate(self, name: str, *, by: str, at_once: bool = False) -> MadeToken:
        """Replace the newest token of this name, which stays valid for an hour, or ends at once.

        The new token has the same scopes and the same full lifetime. Raises TokenNotFound.
        """
        with self._deeds.doing("token-rotate", by, name, details={"now": True} if at_once else {}) as deed:
            made = self._rotate(name, by=by, at_once=at_once)
            deed.results["id"] = made.token.id
            return made

    def _rotate(self, name: str, *, by: str, at_once: bool) -> MadeToken:
        now = self._now()
        with self._files.changing() as joined:
            content = self._closed_content(joined)
            old = self._newest(content, name)
            ends = min(old.expires or LONGEST_LIFE + now, now + ROTATION_MICROSECONDS)
            expires = None if old.expires is None else now + (old.expires - old.created)
            text = token_text.new_token()
            token = _token(text, name, old.scope, now, by, expires)
            previous = msgspec.structs.replace(old, expires=now if at_once else ends)
            if at_once:
                ended = [other for other in content.tokens if other.name == name]
                others = [other for other in content.tokens if other.name != name]
                revoked = [*content.revoked, *(Revoked(other.id, other.name, now, by) for other in ended)]
                unwritten = self._write(content, [*others, token], revoked)
            else:
                others = [other for other in content.tokens if other.id != old.id]
                unwritten = self._write(content, [*others, previous, token], content.revoked)
        return MadeToken(text, token, previous, unwritten)

    def revoke(self, token_id: str, *, by: str) -> RevokedTokens:
        """Revoke a token, also one of the settings. A second call changes nothing. Raises TokenNotFound."""
        with self._deeds.doing("token-revoke", by, token_id) as deed:
            ended = self._revoke(token_id, by=by)
            deed.results["name"] = ended.tokens[0].name
            return ended

    def _revoke(self, token_id: str, *, by: str) -> RevokedTokens:
        with self._files.changing() as joined:
            content = self._closed_content(joined)
            earlier = next((other for other in content.revoked if other.id == token_id), None)
            if earlier is not None:
                return RevokedTokens([earlier])
            revoked = Revoked(token_id, self._name_of(content, token_id), self._now(), by)
            others = [token for token in content.tokens if token.id != token_id]
            unwritten = self._write(content, others, [*content.revoked, revoked])
        return RevokedTokens([revoked], unwritten)

    def disable(self, *, by: str) -> RevokedTokens:
        """Revoke all tokens and open the service. Raises InvalidSettings if the settings keep it closed."""
        with self._deeds.doing("tokens-disable", by) as deed:
            ended = self._disable(by=by)
            deed.results["revoked"] = len(ended.tokens)
            return ended

    def require_openable(self) -> None:
        """Raise InvalidSettings if tokens of the settings keep the service closed."""
        if self._configured.is_set:
            raise InvalidSettings(
                "API_TOKENS or API_TOKENS_FILE is set, which keeps the service closed; nothing was changed",
                hint="unset both, restart the service, and disable tokens then",
            )

    def _disable(self, *, by: str) -> RevokedTokens:
        self.require_openable()
        with self._files.changing() as joined:
            content, now = self._closed_content(joined), self._now()
            ended = [Revoked(token.id, token.name, now, by) for token in content.tokens]
            unwritten = self._write(msgspec.structs.replace(content, closed=False), [], [*content.revoked, *ended])
        return RevokedTokens(ended, unwritten)

    def require_adoptable(self) -> TokenFile:
        """Return the tokens in BACKUP_DIR, of any installation. Raises NothingToRecover if there are none."""
        copy = self._files.read_backups()
        if copy.content is None or copy.condition not in (FileCondition.GOOD, FileCondition.FOREIGN):
            raise NothingToRecover(
                f"{copy.path} has no tokens that could be used{f': {copy.why}' if copy.why else ''}",
                hint="make a token: flask tokens create admin --scope admin",
            )
        return copy.content

    def adopt_backups(self) -> int:
        """Replace all tokens by those in BACKUP_DIR. Returns how many are valid. Raises NothingToRecover."""
        with self._files.changing():
            content = self.require_adoptable()
            self._write(content, content.tokens, content.revoked)
        return sum(_is_live(token, self._now()) for token in content.tokens)

    def foreign_tokens(self) -> bool:
        """Return whether BACKUP_DIR has tokens of another installation."""
        return self._files.read_backups().condition is FileCondition.FOREIGN

    def _closed_content(self, joined: Joined) -> TokenFile:
        """Return the content of the files, or that of a new register, closed in any case."""
        if joined.content is None:
            return TokenFile(secrets.token_hex(8), 0, True, [], [])
        return msgspec.structs.replace(joined.content, closed=True)

    def _write(self, content: TokenFile, tokens: list[Token], revoked: list[Revoked]) -> str | None:
        if len(tokens) > MAX_TOKENS:
            raise InvalidInput(
                f"there are {MAX_TOKENS} tokens already; nothing was changed", hint="revoke those that nobody uses"
            )
        return self._files.write(
            msgspec.structs.replace(content, counter=content.counter + 1, tokens=tokens, revoked=revoked)
        )

    def _newest(self, content: TokenFile, name: str) -> Token:
        tokens = [token for token in content.tokens if token.name == name]
        if tokens:
            return max(tokens, key=lambda token: (token.created, token.id))
        if any(token.name == name for token in self._configured.read_or_keep()[0]):
            raise InvalidInput(
                f"the token {name} comes from API_TOKENS or API_TOKENS_FILE; nothing was changed",
                hint="put the SHA-256 of a new one there, and revoke this one",
            )
        raise TokenNotFound(f"there is no token {name[:80]}; nothing was changed", hint=_LIST)

    def _name_of(self, content: TokenFile, token_id: str) -> str:
        names = {token.id: token.name for token in self._configured.read_or_keep()[0]}
        names |= {token.id: token.name for token in content.tokens}
        if token_id in names:
            return names[token_id]
        ids = [other_id for other_id, name in names.items() if name == token_id]
        if ids:
            raise TokenNotFound(
                f"no token has the id {token_id}, which is a name; nothing was changed",
                hint=f"name the id: flask tokens revoke {' or '.join(ids)}",
            )
        raise TokenNotFound(f"there is no token {token_id[:80]}; nothing was changed", hint=_LIST)

    def _describe(self, token: Token, now: int) -> dict[str, Any]:
        row = self._row(token.id, token.name, token.scope, token.by)
        row["created"] = clock.format_milliseconds(token.created)
        row["expires"] = clock.optional_milliseconds(token.expires)
        row["expired"] = not _is_live(token, now)
        return row

    def _row(self, token_id: str, name: str, scope: str, source: str) -> dict[str, Any]:
        used = self._uses.last_use(token_id)
        return {
            "id": token_id,
            "name": name,
            "scope": scope,
            "created": None,
            "expires": None,
            "expired": False,
            "lastUsed": clock.optional_milliseconds(used),
            "from": source,
        }


def _token(text: str, name: str, scope: str, now: int, by: str, expires: int | None) -> Token:
    token_id = token_text.id_of(text)
    assert token_id is not None, "a new token has an id"
    return Token(token_id, name, scope, token_text.digest_of(text).hex(), now, by, expires)


def _is_live(token: Token, now: int) -> bool:
    return token.expires is None or token.expires > now


def expiry_of(text: str | None, now: int) -> int | None:
    """Return the instant for a span such as `90d` or the text of an instant; None for None. Raises ValueError."""
    if text is None:
        return None
    span = _SPAN.fullmatch(text.strip().lower())
    instant = now + int(span[1]) * _UNITS[span[2]] if span else clock.parse_lenient(text)
    if not now < instant <= now + LONGEST_LIFE:
        raise ValueError(text)
    return instant


def _fields_of(name: str, scope: str, expires: str | None, now: int) -> dict[str, list[str]]:
    """Return what is wrong with the input for a new token, by field."""
    fields = {}
    if not token_text.is_name(name):
        fields["name"] = [f"Allowed: {token_text.NAME_ALLOWED}."]
    checks: dict[str, tuple[Callable[[], Any], str]] = {
        "scope": (lambda: scopes.parse(scope), f"Allowed: {', '.join(scopes.SCOPES)}, or several joined by '+'."),
        "expires": (lambda: expiry_of(expires, now), "Allowed: a span such as 12h, 90d or 8w, or a future instant."),
    }
    for field, (check, allowed) in checks.items():
        try:
            check()
        except ValueError:
            fields[field] = [allowed]
    return fields


_LIST = "GET /api/tokens shows the tokens"

"""Joins the two copies of `tokens.json`. Pure functions decide which tokens count.

The copy with the higher counter counts. Revocations of both are joined, so an old copy that was put back makes no
revoked token valid again. A token that only one copy has counts too: the other copy could not be written then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault.access.token_file import Copy, FileCondition, Revoked, Token, TokenFile

_DOUBTFUL = frozenset({FileCondition.DAMAGED, FileCondition.NEWER, FileCondition.FOREIGN})


class Doubt(NamedTuple):
    """A problem of the files, for health. condition: ABSENT if both are gone. message: a sentence."""

    condition: FileCondition
    message: str


@dataclass(frozen=True)
class Joined:
    """content: of both copies together; None if no token was ever made here.

    has_newer: a later version wrote one of them. marked: STORAGE_DIR has the mark that a token was made. behind: the
    copies that lack something of the content.
    """

    content: TokenFile | None = None
    closed: bool = False
    doubts: tuple[Doubt, ...] = ()
    has_newer: bool = False
    marked: bool = False
    behind: tuple[Copy, ...] = field(default=(), compare=False)

    @property
    def is_unsettled(self) -> bool:
        """Whether a copy or the mark has to be written, so that the loss of one folder loses nothing."""
        return bool(self.behind) or (self.content is not None and self.content.closed and not self.marked)


def join(in_storage: Copy, in_backups: Copy, *, marked: bool) -> Joined:
    """Join two copies. marked: STORAGE_DIR has the mark that a token was made.

    The file in STORAGE_DIR decides whether the service is closed. Without it, a copy that is damaged or of another
    installation keeps it closed, and so does a file of a later version in any case.
    """
    in_storage, in_backups = _of_one_register(in_storage, in_backups)
    in_backups = _of_same_register(in_storage, in_backups)
    copies = (in_storage, in_backups)
    has_newer = any(copy.condition is FileCondition.NEWER for copy in copies)
    good = [] if has_newer else [copy.good for copy in copies if copy.good is not None]
    content = join_contents(good) if good else None
    doubtful = [copy for copy in copies if copy.condition in _DOUBTFUL]
    is_gone = content is None and marked and in_storage.condition is FileCondition.ABSENT
    gone = (gone_at(in_storage.path),) if is_gone else ()
    return Joined(
        content,
        closed=marked
        or has_newer
        or (content is not None and content.closed)
        or (in_storage.good is None and (bool(in_storage.why) or bool(doubtful))),
        doubts=(*(Doubt(copy.condition, copy.why) for copy in copies if copy.why), *gone),
        has_newer=has_newer,
        marked=marked,
        behind=tuple(copy for copy in copies if content is not None and _is_behind(copy, content)),
    )


def gone_at(path: Path) -> Doubt:
    return Doubt(FileCondition.ABSENT, f"{path} is gone, and so is its copy: no token that was made here is valid")


def join_contents(contents: list[TokenFile]) -> TokenFile:
    """Return the joined content of files of one register."""
    contents = sorted(contents, key=lambda content: content.counter, reverse=True)
    revoked: dict[str, Revoked] = {}
    tokens: dict[str, Token] = {}
    for content in contents:
        revoked = {token.id: token for token in content.revoked} | revoked
        tokens = {token.id: token for token in content.tokens} | tokens
    return msgspec.structs.replace(
        contents[0],
        tokens=sorted((token for token in tokens.values() if token.id not in revoked), key=_age),
        revoked=sorted(revoked.values(), key=lambda token: (token.at, token.id)),
        seal="",
    )


def _age(token: Token) -> tuple[int, str]:
    return token.created, token.id


def _of_one_register(in_storage: Copy, in_backups: Copy) -> tuple[Copy, Copy]:
    """Return both copies, as of one register if the same key sealed both.

    If they have different registers, one is older than the loss of both files, after which a new register began. No
    token of the older one is valid, because nobody knows which of them were revoked since.
    """
    ours, copy = in_storage.good, in_backups.good
    if ours is None or copy is None or ours.register == copy.register:
        return in_storage, in_backups
    if in_storage.key is None or in_storage.key != in_backups.key:
        return in_storage, in_backups
    if _newest(ours) < _newest(copy):
        return _without_tokens(in_storage, ours, copy.register), in_backups
    return in_storage, _without_tokens(in_backups, copy, ours.register)


def _newest(content: TokenFile) -> int:
    """Return when a token was last made or revoked."""
    return max([*(token.created for token in content.tokens), *(token.at for token in content.revoked)], default=0)


def _without_tokens(copy: Copy, content: TokenFile, register: str) -> Copy:
    return replace(copy, content=msgspec.structs.replace(content, register=register, counter=0, tokens=[]))


def _of_same_register(in_storage: Copy, in_backups: Copy) -> Copy:
    """Return the copy in BACKUP_DIR, compared with the file in STORAGE_DIR.

    It is foreign if it belongs to another register. A copy of our own register with another seal counts as missing: it
    was sealed before the key of the installation was renewed.
    """
    ours, copy = in_storage.good, in_backups.content
    if ours is None or copy is None:
        return in_backups
    if ours.register == copy.register:
        return in_backups if in_backups.good else Copy(in_backups.path, FileCondition.ABSENT)
    why = f"{in_backups.path} does not belong to {in_storage.path}: it has the tokens of another installation"
    return Copy(in_backups.path, FileCondition.FOREIGN, copy, why)


def _is_behind(copy: Copy, content: TokenFile) -> bool:
    if copy.condition in (FileCondition.ABSENT, FileCondition.DAMAGED):
        return True
    return copy.good is not None and msgspec.structs.replace(copy.good, seal="") != content

"""The file of the tokens, `tokens.json`: its form, its seal, and how one copy is read.

STORAGE_DIR has the file, and BACKUP_DIR has a copy. The seal is an HMAC with the installation's key, which tells our
copy from that of another installation. The file has only the SHA-256 of a token.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from eventvault import small_files
from eventvault.small_files import SmallFileDamaged

FORMAT = 1
_SEALED = b"eventvault tokens\n"


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token that was made here. digest: SHA-256 in hex. scope: as `scopes.parse` reads it.

    created, expires: microseconds. by: who made it, `shell` or the name of a token.
    """

    id: str
    name: str
    scope: str
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created: int
    by: str
    expires: int | None = None


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that is no longer valid, whatever an old file says. at: microseconds."""

    id: str
    name: str
    at: int
    by: str


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """register: the same id in all files that follow from one first file. counter: grows with each change.

    closed: False after `flask tokens disable`. seal: in hex, of all other members.
    """

    register: str
    counter: int
    closed: bool
    tokens: list[Token]
    revoked: list[Revoked]
    seal: str = ""
    format: Literal[1] = 1


class FileCondition(Enum):
    GOOD = "good"
    ABSENT = "absent"
    DAMAGED = "damaged"
    NEWER = "newer"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Copy:
    """One of the two files, as it was read. why: a sentence if it is neither good nor absent.

    content: also of a foreign file. key: the key that sealed it, if it was compared with any.
    """

    path: Path
    condition: FileCondition
    content: TokenFile | None = None
    why: str = ""
    key: bytes | None = field(default=None, repr=False)

    @property
    def good(self) -> TokenFile | None:
        return self.content if self.condition is FileCondition.GOOD else None


class _Version(msgspec.Struct):
    format: int


def read_copy(path: Path, keys: list[bytes] | None) -> Copy:
    """Read one file. keys: whose seals count; None: any seal counts, because no key can be read. Never raises."""
    try:
        content = small_files.read(path, TokenFile)
    except FileNotFoundError:
        return Copy(path, FileCondition.ABSENT)
    except NotADirectoryError:
        return Copy(path, FileCondition.ABSENT)
    except SmallFileDamaged as error:
        if is_newer(path):
            return Copy(path, FileCondition.NEWER, why=f"{path} was written by a later version of EventVault")
        return Copy(path, FileCondition.DAMAGED, why=str(error))
    except OSError as error:
        return Copy(path, FileCondition.UNREADABLE, why=f"{path} cannot be read: {error.strerror or error}")
    if keys is None:
        return Copy(path, FileCondition.GOOD, content)
    for key in keys:
        if hmac.compare_digest(content.seal, _seal(content, key)):
            return Copy(path, FileCondition.GOOD, content, key=key)
    return Copy(path, FileCondition.FOREIGN, content, f"{path} is not sealed with the key of this installation")


def is_newer(path: Path) -> bool:
    """Return whether a later version wrote the file: its checksum is right, and its version is above ours."""
    try:
        return small_files.read(path, _Version).format > FORMAT
    except (SmallFileDamaged, OSError):
        return False


def write_copy(path: Path, content: TokenFile, key: bytes) -> None:
    """Seal the content and write it durably, for this user alone. Raises NoSpace or OSError."""
    small_files.write(path, msgspec.structs.replace(content, seal=_seal(content, key)), mode=0o600)


def _seal(content: TokenFile, key: bytes) -> str:
    plain = msgspec.json.encode(msgspec.structs.replace(content, seal=""))
    return hmac.digest(key, _SEALED + plain, hashlib.sha256).hex()

"""Decides whether an archive is proven. Plain data, so that it can be passed to a chore."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventvault.archive import seal
from eventvault.archive.seal import SealedRoot


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator trusts, in addition to the archives of this installation.

    keys: of other installations, in hex. checksums: of single archives. Each is `blake3:…` or only hex digits: a
    SHA-256, or a root without its prefix.
    """

    keys: tuple[str, ...] = ()
    checksums: frozenset[str] = frozenset()

    def has(self, checksum: str | None) -> bool:
        return checksum is not None and not self.checksums.isdisjoint({checksum, checksum.removeprefix("blake3:")})


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """installation: the id of this one. made: the checksums of the archives that the catalogue has as made here.

    keys: of this installation, in hex; empty if no key can be read. trust: what an operator trusts.

    In all methods, installation is the one in the archive's manifest. checksum: None if the archive was not read yet;
    then the root at its end is used, which a restore compares with the bytes. sealed: None if it is not sealed.
    """

    installation: str
    made: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    trust: Trust = Trust()

    def covers(self, installation: str | None, checksum: str | None, sealed: SealedRoot | None) -> bool:
        """Return True if an archive is proven: made here, or trusted."""
        return self.covers_made_here(installation, checksum, sealed) or self.covers_trusted(checksum, sealed)

    def covers_trusted(self, checksum: str | None, sealed: SealedRoot | None) -> bool:
        """Return True if an operator trusts an archive or the key that sealed it."""
        return self.trust.has(_checksum(checksum, sealed)) or _fits(self.trust.keys, checksum, sealed)

    def covers_made_here(self, installation: str | None, checksum: str | None, sealed: SealedRoot | None) -> bool:
        """Return True if an archive is proven to be made here."""
        recorded = installation == self.installation and _checksum(checksum, sealed) in self.made
        return recorded or _fits(self.keys, checksum, sealed)


def _checksum(checksum: str | None, sealed: SealedRoot | None) -> str | None:
    return checksum or (f"blake3:{sealed.root}" if sealed else None)


def _fits(keys: Iterable[str], checksum: str | None, sealed: SealedRoot | None) -> bool:
    # If the archive was read, its checksum is the root of its bytes: the seal must be of that root.
    if sealed is None or _checksum(checksum, sealed) != f"blake3:{sealed.root}":
        return False
    return any(seal.fits(bytes.fromhex(key), sealed) for key in keys)

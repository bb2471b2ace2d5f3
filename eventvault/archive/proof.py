"""What proves that an archive was made by this installation, as plain data that a chore can get."""

from __future__ import annotations

import msgspec

from eventvault.archive import seal
from eventvault.archive.seal import SealedRoot


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """installation: the id of this one. made: the checksums of the archives that the catalogue has as made here.

    keys: those whose seals count, in hex; none if no key can be read.
    """

    installation: str
    made: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()

    def covers(self, installation: str | None, checksum: str | None, sealed: SealedRoot | None) -> bool:
        """Return True if an archive is proven to be made here.

        installation: the one that its manifest has. checksum: None if it was not read yet; then the seal must prove the
        root that the archive has at its end. sealed: None if it is not sealed.
        """
        if installation == self.installation and checksum in self.made:
            return True
        # An archive that was read to its end has the root in its checksum: that root is the one that must be sealed.
        if sealed is None or checksum not in (None, f"blake3:{sealed.root}"):
            return False
        return any(seal.fits(bytes.fromhex(key), sealed) for key in self.keys)

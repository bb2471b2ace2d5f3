"""The result of a full check of one of our archives, in either format."""

from __future__ import annotations

import msgspec

from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Proof
from eventvault.archive.seal import SealedRoot


class VerifiedArchive(msgspec.Struct, frozen=True):
    """An archive whose every byte was checked.

    sha256: of the whole file, in hex; in format 2 only on request. digest: `blake3:` and the root in hex; only in
    format 2. sealed: the root and its seal; None if the archive is not sealed.
    """

    manifest: Manifest
    sha256: str | None = None
    digest: str | None = None
    sealed: SealedRoot | None = None

    @property
    def checksum(self) -> str | None:
        """The digest if there is one, otherwise the SHA-256: it stands for all bytes of the archive."""
        return self.digest or self.sha256

    def is_proven(self, proof: Proof) -> bool:
        """Return True if this installation made the archive, or an operator trusts it."""
        return proof.covers(self.manifest.installation, self.checksum, self.sealed)

"""What a full check of an archive of ours gives, whatever its format."""

from __future__ import annotations

import msgspec

from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Proof
from eventvault.archive.seal import SealedRoot


class VerifiedArchive(msgspec.Struct, frozen=True):
    """An archive whose every byte was checked.

    sha256: of the whole file, in hex; of format 2 only if it was asked for. digest: `blake3:` and the root in hex; only
    for format 2. sealed: the root and its seal, of an archive that is sealed.
    """

    manifest: Manifest
    sha256: str | None = None
    digest: str | None = None
    sealed: SealedRoot | None = None

    @property
    def checksum(self) -> str | None:
        """The one of both that stands for the bytes of this archive."""
        return self.digest or self.sha256

    def is_proven(self, proof: Proof) -> bool:
        """Return True if this installation made the archive, or an operator trusts it."""
        return proof.covers(self.manifest.installation, self.checksum, self.sealed)

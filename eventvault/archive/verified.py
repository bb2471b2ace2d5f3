"""What a full check of an archive of ours gives, whatever its format."""

from __future__ import annotations

import msgspec

from eventvault.archive.manifest import Manifest


class VerifiedArchive(msgspec.Struct, frozen=True):
    """An archive whose every byte was checked.

    sha256: of the whole file, in hex; only for format 1. digest: `blake3:` and the root in hex; only for format 2.
    """

    manifest: Manifest
    sha256: str | None = None
    digest: str | None = None

    @property
    def checksum(self) -> str | None:
        """The one of both that stands for the bytes of this archive."""
        return self.digest or self.sha256

"""A backup folder whose archives are only manifests, for tests of the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eventvault.archive import seal
from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Trust
from eventvault.archive.seal import SealedRoot
from eventvault.backups.catalogue import Catalogue
from eventvault.database.generation import Generation
from eventvault.errors import (
    ArchiveAlien,
    ArchiveIncomplete,
)

NOON = "2024-12-27T12:00:00.123Z"
KEY, ANOTHER_KEY = bytes(32), bytes(range(32))
ROOT = bytes(range(100, 132))
FIRST = Generation("00000000000000a1", None, 0, "created", 1)


def manifest(name: str, **more: Any) -> Manifest:
    values: dict[str, Any] = {
        "store_id": "s", "installation": "here", "generation": FIRST, "generations": [FIRST], "first_sequence": 1,
        "last_sequence": 42, "first_time": None, "last_time": None, "events": 42, "label": "a label", "name": name,
        "created": NOON, **more,
    }  # fmt: skip
    return Manifest(**values)


class Folder:
    """A backup folder whose archives are only manifests, and the function that examines them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks: list[str] = []
        self.seal: SealedRoot | None = None
        self.sealed: set[str] = set()
        """The archives that have the seal; none: all of them."""
        self.key: bytes | None = None
        self.trust = Trust()
        path.mkdir()

    def put(self, file: str, **more: Any) -> Path:
        path = self.path / file
        path.write_bytes(msgspec.json.encode(manifest(**{"name": file, **more})))
        return path

    def catalogue(self, installation: str = "here") -> Catalogue:
        return Catalogue(
            self.path,
            installation,
            self.read_manifest,
            lambda _path: "foreign",
            read_seal=self.read_seal,
            key=lambda: self.key,
            trust=lambda: self.trust,
            now=lambda: 77,
        )

    def read_seal(self, path: Path) -> SealedRoot | None:
        return self.seal if not self.sealed or path.name in self.sealed else None

    def seal_with(self, key: bytes, *archives: str) -> None:
        """Give these archives, or all, a seal of this key."""
        self.seal = SealedRoot(ROOT.hex(), seal.seal_root(key, ROOT).hex())
        self.sealed = set(archives)

    def read_manifest(self, path: Path) -> Manifest:
        self.looks.append(path.name)
        content = path.read_bytes()
        if content.startswith(b"foreign"):
            raise ArchiveAlien(f"{path} has no manifest")
        if not content.endswith(b"}"):
            raise ArchiveIncomplete(f"{path} is still being copied")
        return msgspec.json.decode(content, type=Manifest)


def listed(catalogue: Catalogue) -> list[str]:
    return [entry.name for entry in catalogue.entries()]

"""Writes archives of format 2, as a backup does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventvault.archive import writer
from eventvault.archive.manifest import Manifest
from eventvault.archive.writer import WrittenArchive


def write_archive(path: Path, folder: Path, about: Manifest, **options: Any) -> WrittenArchive:
    """Write the files of `folder` to the archive `path`. options: see `writer.unnamed_archive`."""
    with writer.unnamed_archive(path, folder, about, **options) as archive:
        pass
    return archive

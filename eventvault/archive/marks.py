"""Distinguishes our archives from foreign ones by the marks in the first and the last gzip member.

Implements the opening mark and the closing member of `docs/format.md`.
"""

from __future__ import annotations

from typing import Literal

from eventvault.archive import layout
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import FORMAT_VERSION, too_new
from eventvault.archive.source import OpenArchive

_HEAD = 512
_TAIL = 64 * 1024
_MIN_GZIP_BYTES = 20

_GZIP = b"\x1f\x8b"
_OTHER_FORMATS = {
    b"PK": "a zip file", b"\x28\xb5\x2f\xfd": "a zstd file", b"\xfd7zXZ\0": "an xz file", b"BZh": "a bzip2 file",
    b"7z\xbc\xaf": "a 7z file", b"age-encryption.org": "an encrypted (age) file", b"<": "a web page or XML",
}  # fmt: skip


def archive_origin(archive: OpenArchive) -> Literal["own", "foreign"]:
    """Return `own` if either end bears our mark, `foreign` for any other gzip file. Reads only the two ends.

    Raises ArchiveIncomplete if the file ends too early, ArchiveDamaged if bytes follow the closing member, ArchiveAlien
    if it is not a gzip file, or ArchiveTooNew.
    """
    head = archive.read_at(0, _HEAD)
    if layout.opening_version(head) is not None or _closing(archive) is not None:
        find_closing(archive)
        return "own"
    if not head.strip(b"\0"):
        raise archive.incomplete("it is empty, or only its space is reserved yet")
    if len(head) < _MIN_GZIP_BYTES and (_GZIP.startswith(head[:2]) or head.startswith(_GZIP)):
        raise archive.incomplete(f"it ends after {len(head)} bytes")
    if not head.startswith(_GZIP):
        raise archive.alien(f"it is not a tar.gz file but {_format_name(head)}")
    return "foreign"


def find_closing(archive: OpenArchive) -> Closing:
    closing = _closing(archive)
    if closing is None:
        raise _no_closing(archive)
    opening = layout.opening_version(archive.read_at(0, _HEAD))
    if opening == closing.version and opening > FORMAT_VERSION:
        raise too_new(archive.path, opening)
    if opening != closing.version or not 1 <= opening <= FORMAT_VERSION:
        raise archive.damaged("the mark in its first gzip header is not as EventVault writes it", 0)
    return closing


def _closing(archive: OpenArchive) -> Closing | None:
    offset = max(0, archive.size - layout.CLOSING_SIZE)
    return layout.parse_closing(archive.read_at(offset, layout.CLOSING_SIZE))


def _no_closing(archive: OpenArchive) -> Exception:
    start = max(0, archive.size - _TAIL)
    tail = archive.read_at(start, _TAIL)
    position = tail.rfind(layout.CLOSING_PREFIX)
    end = start + position + layout.CLOSING_SIZE
    if position >= 0 and end < archive.size:
        return archive.damaged("something follows the end of the archive", end)
    return archive.incomplete(
        "it does not end as an archive does: it is cut off, still being copied, or its last bytes are damaged"
    )


def _format_name(head: bytes) -> str:
    if head[257:262] == b"ustar":
        return "a tar file that is not compressed"
    return next((name for magic, name in _OTHER_FORMATS.items() if head.startswith(magic)), "something else")

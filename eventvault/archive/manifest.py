"""Reads and writes `manifest.json`: the store and the moment of an archive, and the digest of each file.

Implements "manifest.json" of `docs/format.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from eventvault import __version__, clock
from eventvault.archive.compression import Compression
from eventvault.database.generation import Generation, check_generations
from eventvault.errors import ArchiveDamaged, ArchiveTooNew, TooLarge

FORMAT_VERSION = 2
"""The format that is written. Format 1 is read as well."""

MAX_FILES = 100_000
"""Entries of an archive that a reader accepts; LevelDB has fewer files for 200 GB of events."""

MAX_MANIFEST_BYTES = 24 * 2**20
"""The longest `manifest.json` or `INDEX.json` that a reader accepts: `MAX_FILES` entries fit."""

_PART = 1000
_MAX_KAFKA_BYTES = 2**20
_MAX_FIELD_BYTES = 4 * 2**20

NonNegative = Annotated[int, msgspec.Meta(ge=0)]


Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class FileRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One file of the database. name: without a folder. size: in bytes.

    blake3, sha256: of its content, in hex. Format 2 has only the first, format 1 only the second.
    """

    name: Annotated[str, msgspec.Meta(max_length=80)]
    size: NonNegative
    blake3: Digest | None = None
    sha256: Digest | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The content of `manifest.json`. In JSON the names are in camelCase; readers ignore names that they do not know.

    store_id: of the registry, the same through all restores. installation: the one that made the archive.
    generation: the current one at the checkpoint. generations: all of the registry, oldest first.
    first_sequence, last_sequence: None and 0 if there is no event. first_time, last_time: `recordedtime` of these two
    events, as text; None if there is no event. events: their number.
    kafka: the offsets up to which events were consumed. kafka_topics: the ids of these topics. label: from the user.
    name: of the archive when it was made.
    created: ISO 8601 with milliseconds; also the modification time of every tar entry.
    files: in the order of the archive; `write_archive` sets it. compression: of the members that were compressed for
    this archive; copied ones may be smaller. written_by: program and version.
    """

    format_version: int = FORMAT_VERSION
    store_id: str
    installation: str
    generation: Generation
    generations: list[Generation]
    first_sequence: NonNegative | None
    last_sequence: NonNegative
    first_time: str | None
    last_time: str | None
    events: NonNegative
    kafka: dict[str, Any] = {}
    kafka_topics: dict[str, Any] = {}
    label: str | None = None
    name: str
    created: str
    files: Annotated[list[FileRecord], msgspec.Meta(max_length=MAX_FILES)] = []
    compression: Compression = "fast"
    written_by: str = f"eventvault {__version__}"

    @property
    def modified(self) -> int:
        """`created` in whole seconds since the epoch. Raises ValueError if it is not a time after 1970."""
        seconds = clock.parse(self.created) // 1_000_000
        if seconds < 0:
            raise ValueError(f"{self.created!r} lies before 1970")
        return seconds

    @property
    def total_size(self) -> int:
        return sum(file.size for file in self.files)


class _CommonMembers(msgspec.Struct, rename="camel"):
    """The members that every version of a manifest has."""

    format_version: int
    store_id: str


_files = msgspec.json.Decoder(Annotated[list[FileRecord], msgspec.Meta(max_length=MAX_FILES)])
_NAMES = tuple(member.encode_name for member in msgspec.structs.fields(Manifest))
_Members = msgspec.defstruct("_Members", [(name, msgspec.Raw, msgspec.Raw()) for name in _NAMES])
"""The members of a `Manifest` as JSON text; if a name comes twice, only the last one."""


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON in UTF-8 with a newline at its end."""
    return b"".join(encode_in_parts(manifest))


def encode_in_parts(manifest: Manifest) -> Iterator[bytes]:
    """Yield the text of `encode` in parts, because the text of 100,000 files is long."""
    head, files, tail = _indented(msgspec.structs.replace(manifest, files=[])).partition(b'\n "files": []')
    if not manifest.files:
        yield head + files + tail + b"\n"
        return
    yield head + b'\n "files": ['
    for start in range(0, len(manifest.files), _PART):
        part = _indented(manifest.files[start : start + _PART])[1:-2]
        yield (b"," if start else b"") + part.replace(b"\n", b"\n ")
    yield b"\n ]" + tail + b"\n"


def _indented(value: Manifest | list[FileRecord]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def decode(content: bytes | bytearray, path: Path, version: int | None = None) -> Manifest:
    """Return the manifest in `content`, which was read from the archive `path`.

    version: in the archive's marks; the manifest must have the same one. None: the archive has no marks. Raises
    ArchiveTooNew for a later format, and ArchiveDamaged if the content is not a manifest of this version.
    """
    try:
        common = msgspec.json.decode(content, type=_CommonMembers)
        if common.format_version > FORMAT_VERSION:
            raise too_new(path, common.format_version)
        small, files = _split_files(content)
        manifest = msgspec.json.decode(small, type=Manifest)
        _ = manifest.modified
        manifest = msgspec.structs.replace(manifest, files=_files.decode(files or b"[]"))
        _check_version(manifest, version)
        check_generations(manifest.generation.id, manifest.generations)
    except (ValueError, RecursionError, OverflowError) as error:
        raise ArchiveDamaged(
            f"reading {path} failed: its manifest.json is not valid: {error}",
            hint="the archive was changed after it was made; restore another one",
        ) from error
    return manifest


def _check_version(manifest: Manifest, version: int | None) -> None:
    if manifest.format_version < 1 or version not in (None, manifest.format_version):
        raise ValueError(f"it has version {manifest.format_version}, the archive has another one")
    digests = (file.sha256 if manifest.format_version == 1 else file.blake3 for file in manifest.files)
    if None in digests:
        raise ValueError("a file has no digest")


def check_length(manifest: Manifest) -> None:
    """Raise TooLarge if a reader would refuse this manifest, which has no files yet."""
    try:
        _split_files(encode(manifest))
    except ValueError as error:
        raise TooLarge(
            f"writing the manifest of {manifest.name} failed: {error}", hint="give the backup a shorter label"
        ) from error


def _split_files(content: bytes | bytearray) -> tuple[bytes, msgspec.Raw]:
    """Return the members of the `Manifest` in `content` as JSON without `files`, and the text of `files`.

    Decoded JSON takes many times the memory of its text, above all `kafka`, which may hold anything. So the length of
    each member is checked first. `files` may be long and is not copied. Raises ValueError.
    """
    members: Any = msgspec.json.decode(content, type=_Members)
    texts = {name: memoryview(getattr(members, name)) for name in _NAMES if name != "files"}
    for name, text in texts.items():
        most = _MAX_KAFKA_BYTES if name == "kafka" else _MAX_FIELD_BYTES
        if len(text) > most:
            raise ValueError(f"its member `{name}` has {len(text)} bytes; at most {most} are read")
    parts = (b'"%b":%b' % (name.encode(), bytes(text)) for name, text in texts.items() if text)
    files: msgspec.Raw = members.files
    return b"{%b}" % b",".join(parts), files


def too_new(path: Path, version: int) -> ArchiveTooNew:
    return ArchiveTooNew(
        f"reading {path} failed: its format is version {version}, this program knows versions up to {FORMAT_VERSION}",
        hint="read it with the version of EventVault that wrote it, or a later one",
    )

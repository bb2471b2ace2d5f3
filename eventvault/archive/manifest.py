"""`manifest.json`: what an archive holds, of which store, at which moment, and each file's checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from eventvault import __version__, clock
from eventvault.archive.compression import Compression
from eventvault.database.generation import Generation
from eventvault.errors import ArchiveDamaged, ArchiveTooNew, TooLarge

FORMAT_VERSION = 1
"""Of the archive as a whole: its layout, its manifest and its index."""

MAX_FILES = 100_000
"""The most entries of an archive that are read; LevelDB keeps fewer files for 200 GB of events."""

MAX_MANIFEST_BYTES = 24 * 2**20
"""The longest `manifest.json` or `INDEX.json` that is read: `MAX_FILES` entries fit."""

_MAX_KAFKA_BYTES = 2**20
_MAX_FIELD_BYTES = 4 * 2**20

NonNegative = Annotated[int, msgspec.Meta(ge=0)]


class FileRecord(msgspec.Struct, frozen=True, gc=False):
    """One file of the database: its name without a folder, its size in bytes, the SHA-256 of its content in hex."""

    name: Annotated[str, msgspec.Meta(max_length=80)]
    size: NonNegative
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What an archive says of itself. In JSON the members' names are in camelCase; unknown ones are ignored.

    store_id: of the registry, the same through all its restores. installation: of the `storage/` that made it.
    generation: the one at the checkpoint; generations: all that are known, oldest first.
    first_sequence, last_sequence: None and 0 where there is no event. first_time, last_time: `recordedtime` of those
    two, as printed, None where there is no event. events: their number.
    kafka: the offsets that the events stand at. label: as it was given. name: the archive's when it was made.
    created: ISO 8601 with milliseconds; the modification time of every tar entry.
    files: in the order of the archive; `write_archive` fills it in. compression: of the members, at least (those that
    were copied from an earlier archive may be smaller). written_by: program and version.
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
    label: str | None = None
    name: str
    created: str
    files: Annotated[list[FileRecord], msgspec.Meta(max_length=MAX_FILES)] = []
    compression: Compression = "fast"
    written_by: str = f"eventvault {__version__}"

    @property
    def modified(self) -> int:
        """`created` in whole seconds since the epoch. Raises ValueError where it is no instant since then."""
        seconds = clock.parse(self.created) // 1_000_000
        if seconds < 0:
            raise ValueError(f"{self.created!r} lies before 1970")
        return seconds

    @property
    def total_size(self) -> int:
        """Bytes of all the database's files."""
        return sum(file.size for file in self.files)


class _Marks(msgspec.Struct, rename="camel"):
    """What every version of a manifest has."""

    format_version: int
    store_id: str


_files = msgspec.json.Decoder(Annotated[list[FileRecord], msgspec.Meta(max_length=MAX_FILES)])
_NAMES = tuple(known.encode_name for known in msgspec.structs.fields(Manifest))
_Members = msgspec.defstruct("_Members", [(name, msgspec.Raw, msgspec.Raw()) for name in _NAMES])
"""The known members as they stand in the text: of a name that comes twice, only the last."""


def encode(manifest: Manifest) -> bytes:
    """Readable JSON in UTF-8, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(content: bytes | bytearray, path: Path) -> Manifest:
    """The manifest in `content`, read from the archive `path`.

    Raises ArchiveTooNew for a later format, ArchiveDamaged for what is no manifest of this one.
    """
    try:
        marks = msgspec.json.decode(content, type=_Marks)
        if marks.format_version > FORMAT_VERSION:
            raise too_new(path, marks.format_version)
        small, files = _known_members(content)
        manifest = msgspec.json.decode(small, type=Manifest)
        _ = manifest.modified
        manifest = msgspec.structs.replace(manifest, files=_files.decode(files or b"[]"))
    except (ValueError, RecursionError, OverflowError) as error:
        raise ArchiveDamaged(
            f"reading {path} failed: its manifest.json is not valid: {error}",
            hint="the archive was changed after it was made; restore another one",
        ) from error
    return manifest


def check_length(manifest: Manifest) -> None:
    """Raise TooLarge for a manifest, still without files, that would not be read again."""
    try:
        _known_members(encode(manifest))
    except ValueError as error:
        raise TooLarge(
            f"writing the manifest of {manifest.name} failed: {error}", hint="give the backup a shorter label"
        ) from error


def _known_members(content: bytes | bytearray) -> tuple[bytes, msgspec.Raw]:
    """The object in `content` with the known members but `files`, none longer than one of a manifest is; and `files`.

    What is decoded takes many times the memory of its text: `kafka`, which may hold anything, most of all. `files` may
    be long, so it stays where it stands.
    """
    found: Any = msgspec.json.decode(content, type=_Members)
    texts = {name: memoryview(getattr(found, name)) for name in _NAMES if name != "files"}
    for name, text in texts.items():
        most = _MAX_KAFKA_BYTES if name == "kafka" else _MAX_FIELD_BYTES
        if len(text) > most:
            raise ValueError(f"its member `{name}` has {len(text)} bytes; at most {most} are read")
    members = (b'"%b":%b' % (name.encode(), bytes(text)) for name, text in texts.items() if text)
    files: msgspec.Raw = found.files
    return b"{%b}" % b",".join(members), files


def too_new(path: Path, version: int) -> ArchiveTooNew:
    return ArchiveTooNew(
        f"reading {path} failed: its format is version {version}, this program knows versions up to {FORMAT_VERSION}",
        hint="read it with the version of EventVault that wrote it, or a later one",
    )

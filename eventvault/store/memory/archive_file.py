"""The archives of the in-memory double: a real `.tar.gz`, with the events in one file of JSON lines."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from eventvault.backups.entry import BackupEntry
from eventvault.errors import ArchiveAlien, ArchiveDamaged

_MEMBER = "events.jsonl"


def pack(events: Sequence[bytes]) -> bytes:
    content = b"".join(value + b"\n" for value in events)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(_MEMBER)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def unpack(archive: bytes) -> list[bytes]:
    """Return what `pack` packed. Raises ArchiveDamaged, or ArchiveAlien for an archive of something else."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            member = tar.extractfile(_MEMBER)
            return [] if member is None else member.read().splitlines()
    except KeyError:
        raise ArchiveAlien("the archive holds no event database", hint="upload an archive of EventVault") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveDamaged(f"the archive is damaged: {error}", hint="copy it again") from None


def digest_of(archive: bytes) -> str:
    return f"blake3:{blake3(archive).hexdigest()}"


def describe(
    path: Path, *, label: str | None, origin: str, created: int, generation: str, verified: int
) -> BackupEntry:
    content = path.read_bytes()
    events = unpack(content)
    return BackupEntry(
        name=path.name,
        path=str(path),
        size=len(content),
        created=created,
        label=label,
        events=len(events),
        sequence=len(events),
        generation=generation,
        verified=verified,
        checked="digests",
        digest=digest_of(content),
        origin=origin,
        origin_proven=origin == "created",
        added_bytes=len(content),
        shared_bytes=0,
        unique_bytes=len(content),
    )

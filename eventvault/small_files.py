"""Small files with a version and a checksum: one form, one reader, for what EventVault notes beside its data.

A small file is one JSON object, a member on each line. Line 2 is the checksum: the SHA-256 of all other lines. So `sed
2d FILE | sha256sum` checks a file by hand, and a program that does not know the checksum reads the rest.

A caller chooses what a damaged file means: `read` raises, for a file that decides about data; `read_or_quarantine`
renames the file and goes on without it. An OSError says nothing about the content and always passes.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from eventvault import data_folders
from eventvault.files import rename_durably, write_durably

log = logging.getLogger("BackupManager")

Content = TypeVar("Content", bound=msgspec.Struct)
Earlier = TypeVar("Earlier", bound=msgspec.Struct)

_CHECKSUM_LINE = re.compile(rb'\{\n( "checksum": "sha256:([0-9a-f]{64})",\n)')


class SmallFileDamaged(Exception):
    """The file is not what EventVault wrote, or a later version wrote it. The message names the file and the reason."""


def write(path: Path, content: msgspec.Struct, *, replace: bool = True, mode: int = 0o666) -> None:
    """Write `content` durably. replace, mode: as for `eventvault.files.durable_file`. Raises NoSpace or OSError.

    content: a struct with the member `format: Literal[…]`, the version, and `forbid_unknown_fields`.
    """
    text = msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
    checksum = b' "checksum": "sha256:%s",\n' % hashlib.sha256(text).hexdigest().encode()
    write_durably(path, b"{\n" + checksum + text.removeprefix(b"{\n"), replace=replace, mode=mode)


def read(path: Path, kind: type[Content], *, earlier: type[Earlier] | None = None) -> Content | Earlier:
    """Return the content. Raises SmallFileDamaged, FileNotFoundError, or another OSError.

    earlier: what a file without a checksum line is, as EventVault 0.1.0 wrote it. None: such a file is damaged.
    """
    text = path.read_bytes()
    form: type[Content] | type[Earlier] = kind
    line = _CHECKSUM_LINE.match(text)
    if line is not None:
        text = text[: line.start(1)] + text[line.end(1) :]
        if hashlib.sha256(text).hexdigest().encode() != line[2]:
            raise SmallFileDamaged(f"{path} is damaged: its checksum is wrong")
    elif earlier is not None:
        form = earlier
    else:
        raise SmallFileDamaged(f"{path} is damaged: it has no checksum")
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SmallFileDamaged(f"{path} cannot be understood: {error}") from error


def read_or_quarantine(
    path: Path, kind: type[Content], *, earlier: type[Earlier] | None = None
) -> Content | Earlier | None:
    """Return the content; None if there is no file, or a damaged one, which is quarantined. Raises OSError."""
    try:
        return read(path, kind, earlier=earlier)
    except FileNotFoundError:
        return None
    except SmallFileDamaged as error:
        log.warning("%s; it is now %s", error, quarantine(path))
        return None


def quarantine(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged`, or to `<name>.damaged-2` and so on. Returns the new path."""
    return rename_to_free(path, data_folders.DAMAGED_SUFFIX)


def rename_to_free(path: Path, suffix: str) -> Path:
    """Append `suffix` to the file's name, and a number if that name exists. Returns the new path. Raises OSError."""
    target = free_path(path, suffix)
    rename_durably(path, target)
    return target


def free_path(path: Path, suffix: str) -> Path:
    """Return the first path that does not exist: with `suffix` after the file's name, then with a number too."""
    names = itertools.chain([suffix], (f"{suffix}-{number}" for number in itertools.count(2)))
    candidates = (path.with_name(path.name + name) for name in names)
    return next(candidate for candidate in candidates if not candidate.exists())


def quarantined(path: Path) -> list[Path]:
    """Return the damaged files of this name that were quarantined. An operator removes them."""
    return sorted(path.parent.glob(f"{path.name}{data_folders.DAMAGED_SUFFIX}*"))

"""Small files with a version and a checksum: one form and one reader for all notes that EventVault has beside its data.

A small file is one JSON object, a member on each line. Line 2 is the checksum: the SHA-256 of all other lines. So `sed
2d FILE | sha256sum` checks a file by hand, and a program that does not know the checksum reads the rest. A file that
EventVault 0.1.0 must read as a list has a checksum in each of its objects instead.

A caller chooses what a damaged file means: `read` raises, for a file that decides about data; `read_or_quarantine`
renames the file and goes on without it. Whatever the bytes are, and whatever is in the file's place, is damage. An
OSError says nothing about the content and always passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eventvault import data_folders
from eventvault.files import is_there, matching, rename_durably, write_durably
from eventvault.progress import Turn
from eventvault.regular_files import NotRegular, open_file

log = logging.getLogger("BackupManager")

Content = TypeVar("Content", bound=msgspec.Struct)
Earlier = TypeVar("Earlier")

MAX_BYTES = 2**28
"""A larger file is not ours: the catalogue of 100,000 archives has 2**26."""

_CHECKSUM_LINE = re.compile(rb'\{\n( "checksum": "sha256:([0-9a-f]{64})",\n)')
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)

_quarantined: set[Path] = set()
"""What this process quarantined, so that health need not list a large folder."""
_quarantined_lock = threading.Lock()
_quarantining = Turn("renaming of a damaged file")
_untouched: set[Path] = set()
"""Folders in which this process renames nothing."""


class SmallFileDamaged(Exception):
    """The file is not what EventVault wrote, or a later version wrote it. The message names the file and the reason."""


class NotAFile(SmallFileDamaged):
    """A folder, a pipe or the like is in the place of the file."""


def write(path: Path, content: msgspec.Struct, *, replace: bool = True, mode: int = 0o666) -> None:
    """Write `content` durably. replace, mode: as for `eventvault.files.durable_file`. Raises NoSpace or OSError.

    content: a struct with the member `format: Literal[…]`, the version, and `forbid_unknown_fields`. A folder, a pipe
    or a device in the place of the file is quarantined.
    """
    text = msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
    checksum = b' "checksum": "sha256:%s",\n' % hashlib.sha256(text).hexdigest().encode()
    if replace and is_there(path) and not path.is_file():
        quarantine(path)
    write_durably(path, b"{\n" + checksum + text.removeprefix(b"{\n"), replace=replace, mode=mode)


def read(path: Path, kind: type[Content], *, earlier: type[Earlier] | None = None) -> Content | Earlier:
    """Return the content. Raises SmallFileDamaged, FileNotFoundError, or another OSError.

    earlier: the type of a file without a checksum line, as EventVault 0.1.0 wrote it. None: such a file is damaged.
    """
    text = read_bytes(path)
    form: type[Content] | type[Earlier] = kind
    line = _CHECKSUM_LINE.match(text)
    if line is not None:
        text = _without_checksum(path, text, line)
    elif earlier is not None:
        form = earlier
    else:
        raise SmallFileDamaged(f"{path} is damaged: it has no checksum")
    try:
        return msgspec.json.decode(text, type=form)
    except _NOT_JSON as error:
        raise SmallFileDamaged(f"{path} cannot be understood: {error}") from error


def read_or_quarantine(
    path: Path, kind: type[Content], *, earlier: type[Earlier] | None = None
) -> Content | Earlier | None:
    """Return the content; None if there is no file, or a damaged one, which is quarantined. Raises OSError."""
    with contextlib.suppress(SmallFileDamaged, FileNotFoundError):
        return read(path, kind, earlier=earlier)
    with _quarantining.held():  # another thread may have written a good one meanwhile
        try:
            return read(path, kind, earlier=earlier)
        except FileNotFoundError:
            return None
        except SmallFileDamaged as error:
            quarantine_or_log(path, error)
            return None


def check(path: Path) -> None:
    """Raise SmallFileDamaged if the file is certainly not what was written, whatever its type. Renames nothing.

    A file without a checksum line, as EventVault 0.1.0 wrote it, must be JSON. Raises OSError.
    """
    text = read_bytes(path)
    line = _CHECKSUM_LINE.match(text)
    if line is not None:
        _without_checksum(path, text, line)
    try:
        msgspec.json.decode(text)
    except _NOT_JSON as error:
        raise SmallFileDamaged(f"{path} cannot be understood: {error}") from error


def write_list(path: Path, items: Iterable[msgspec.Struct]) -> None:
    """Write a list of objects durably, each with its checksum. Raises NoSpace or OSError."""
    objects = [{**msgspec.to_builtins(item), "checksum": _checksum_of(msgspec.to_builtins(item))} for item in items]
    write_durably(path, msgspec.json.encode(objects))


def read_list(path: Path, kind: type[Content]) -> list[Content]:
    """Return what `write_list` wrote, or EventVault 0.1.0, without checksums. kind: with `forbid_unknown_fields`.

    Raises SmallFileDamaged, FileNotFoundError, or another OSError.
    """
    text = read_bytes(path)
    try:
        objects = msgspec.json.decode(text, type=list[dict[str, Any]])
        for item in objects:
            checksum = item.pop("checksum", None)
            if checksum not in (None, _checksum_of(item)):
                raise SmallFileDamaged(f"{path} is damaged: a checksum is wrong")
        return msgspec.convert(objects, type=list[kind])  # type: ignore[valid-type]
    except _NOT_JSON as error:
        raise SmallFileDamaged(f"{path} cannot be understood: {error}") from error


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file. Raises NotAFile for anything else, SmallFileDamaged if it is too large."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise SmallFileDamaged(f"{path} is damaged: it has {size} bytes")
            content = file.read()
    except (NotRegular, IsADirectoryError) as error:
        raise NotAFile(f"{path} is not what EventVault wrote: {error.strerror or error}") from error
    return content


def quarantine(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged`, or to `<name>.damaged-2` and so on. Returns the new path."""
    target = rename_to_free(path, data_folders.DAMAGED_SUFFIX)
    with _quarantined_lock:
        _quarantined.add(target)
    return target


def leave_untouched(folder: Path) -> None:
    """Have this process rename nothing in a folder that it only reads: a damaged file stays and counts as missing."""
    _untouched.add(folder)


def quarantine_or_log(path: Path, damage: SmallFileDamaged) -> None:
    """Quarantine a damaged file. One that cannot be renamed, as on a read-only disk, stays and counts as missing."""
    if not _untouched.isdisjoint(path.parents):
        log.warning("%s; it stays as it is", damage)
        return
    try:
        log.warning("%s; it is now %s", damage, quarantine(path))
    except OSError as error:
        log.warning("%s; it cannot be renamed: %s", damage, error)
        with _quarantined_lock:
            _quarantined.add(path)


def rename_to_free(path: Path, suffix: str) -> Path:
    """Append `suffix` to the file's name, and a number if that name exists. Returns the new path. Raises OSError."""
    target = free_path(path, suffix)
    rename_durably(path, target)
    return target


def free_path(path: Path, suffix: str) -> Path:
    """Return the first path that does not exist: with `suffix` after the file's name, then with a number too.

    Raises OSError.
    """
    names = itertools.chain([suffix], (f"{suffix}-{number}" for number in itertools.count(2)))
    candidates = (path.with_name(path.name + name) for name in names)
    return next(candidate for candidate in candidates if not is_there(candidate))


def quarantined(path: Path) -> list[Path]:
    """Return the damaged files of this name that were quarantined. An operator removes them."""
    return matching(path.parent, f"{path.name}{data_folders.DAMAGED_SUFFIX}*")


def name_before(path: Path) -> str:
    """Return the name that a quarantined file had before."""
    return path.name.partition(data_folders.DAMAGED_SUFFIX)[0]


class QuarantinedFiles:
    """The quarantined files in some folders. Each folder is listed once; this process knows what it renames later."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._unlisted = list(folders)
        self._folders = folders
        self._found: set[Path] = set()

    def present(self) -> list[Path]:
        """Return those that still exist. A folder that cannot be listed now is listed at a later call."""
        listed: dict[Path, list[Path]] = {}
        for folder in self._unlisted:
            with contextlib.suppress(OSError):
                listed[folder] = matching(folder, f"*{data_folders.DAMAGED_SUFFIX}*")
        with _quarantined_lock:
            self._unlisted = [folder for folder in self._unlisted if folder not in listed]
            self._found |= {path for path in _quarantined if path.parent in self._folders}.union(*listed.values())
            found = set(self._found)
        return sorted(path for path in found if _may_be_there(path))


def _may_be_there(path: Path) -> bool:
    try:
        return is_there(path)
    except OSError:
        return True


def _without_checksum(path: Path, text: bytes, line: re.Match[bytes]) -> bytes:
    """Return the text without its checksum. Raises SmallFileDamaged if that is wrong."""
    rest = text[: line.start(1)] + text[line.end(1) :]
    if hashlib.sha256(rest).hexdigest().encode() != line[2]:
        raise SmallFileDamaged(f"{path} is damaged: its checksum is wrong")
    return rest


def _checksum_of(item: dict[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(item)).hexdigest()}"

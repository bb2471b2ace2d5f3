"""Says what an archive's name may be, and names new ones: `backup_YYYY-MM-DD_HHMMSS[_label][_number].tar.gz` in UTC.

A name is never a path: every name from outside goes through `check_name` before it is joined to a folder.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime

from eventvault import clock
from eventvault.errors import InvalidInput
from eventvault.printable import has_control_characters, is_utf8

SUFFIX = ".tar.gz"
ENCRYPTED_SUFFIX = ".tar.gz.age"
KNOWN_SUFFIXES = (SUFFIX, ENCRYPTED_SUFFIX)
"""Suffixes of archives."""
MAX_NAME_BYTES = 255
MAX_SLUG_LENGTH = 60

_INSTANT = re.compile(r"backup_([0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{6})(?:_.+)?\.tar\.gz")


def slug(label: str | None) -> str:
    """Return the label in `[a-z0-9-]`, at most 60 characters, maybe none. Accents are dropped, the rest are hyphens."""
    plain = unicodedata.normalize("NFKD", label or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG_LENGTH].rstrip("-")


def candidates(instant: int, label: str | None = None) -> Iterator[str]:
    """Yield names for an archive made at `instant` (microseconds), in the order in which to try them, without end."""
    stem = f"backup_{clock.from_microseconds(instant):%Y-%m-%d_%H%M%S}"
    if text := slug(label):
        stem += f"_{text}"
    yield stem + SUFFIX
    for number in itertools.count(2):
        yield f"{stem}_{number}{SUFFIX}"


def instant_of(name: str) -> int | None:
    """Return the time in a name, in microseconds and to the second; None if there is none."""
    match = _INSTANT.fullmatch(name)
    if not match:
        return None
    try:
        instant = datetime.strptime(match[1], "%Y-%m-%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return clock.to_microseconds(instant)


def looks_like_archive(name: str) -> bool:
    """Return True if a file name has an archive's suffix and is not hidden. Copying programs use hidden names."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def is_name(name: str) -> bool:
    return _problem(name) is None


def check_name(name: object) -> str:
    """Return the name if an archive may have it. Raises InvalidInput with the reason otherwise."""
    problem = _problem(name)
    if problem is not None or not isinstance(name, str):
        raise InvalidInput(
            f"{name!r:.300} is not a backup's name: it {problem}",
            hint=f"a backup's name is a file name, without a path, and ends in {SUFFIX}",
            fields={"name": [f"it {problem}"]},
        )
    return name


def file_problem(name: str) -> str | None:
    """Return why no visible file of BACKUP_DIR may have this name; None if one may. The suffix does not matter."""
    if "/" in name or "\\" in name:
        return "holds a path"
    if not is_utf8(name):
        return "is not UTF-8"
    if has_control_characters(name):
        return "holds control characters"
    if name.startswith("."):
        return "begins with a dot"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def _problem(name: object) -> str | None:
    if not isinstance(name, str):
        return "is not a string"
    problem = file_problem(name)
    if problem is None and name.endswith(ENCRYPTED_SUFFIX):
        return f"ends in {ENCRYPTED_SUFFIX}: decrypt the archive first"
    return problem if problem or name.endswith(SUFFIX) else f"does not end in {SUFFIX}"

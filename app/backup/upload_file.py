"""The file in `BACKUP_DIR` into which an upload is written before the store checks it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eventvault import data_folders
from eventvault.errors import EventVaultError
from eventvault.files import make_folder
from eventvault.regular_files import open_file
from eventvault.system_errors import reporting_no_space


@contextmanager
def temporary_upload(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield a file that is removed at the end, unless the store took it."""
    make_folder(folder)
    path = folder / f"{data_folders.UPLOAD_PREFIX}{secrets.token_hex(8)}{data_folders.TEMPORARY_SUFFIX}"
    try:
        with reporting_no_space(f"taking an upload into {folder}"), open_file(path, "xb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def hand_over(path: Path) -> Iterator[Path]:
    """Hand the file over to the store, which removes it if this process ends. Yields its new path.

    If the store refuses the file, it is removed.
    """
    new_path = path.with_name(path.name.replace(data_folders.UPLOAD_PREFIX, data_folders.HANDED_OVER_PREFIX))
    path.rename(new_path)
    try:
        yield new_path
    except EventVaultError:
        new_path.unlink(missing_ok=True)
        raise

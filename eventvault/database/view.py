"""A database view, for reading while the disk keeps the database itself from being opened.

LevelDB writes whenever it opens a database. So a view is a folder in the system's temporary folder, with links to the
tables and copies of CURRENT, the MANIFEST and the logs: LevelDB writes there and does not change the database.
For a table that the disk cannot read whole (`eventvault.database.unreadable_tables`) the view has a copy of the
readable parts. Nobody else may open the database meanwhile, and its folder may not be renamed: LevelDB opens tables by
path.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventvault.database.registry import open_leveldb
from eventvault.database.unreadable_tables import are_distrusted, copy_readable
from eventvault.errors import DatabaseDamaged
from eventvault.files import matching, temporary_folder
from eventvault.leveldb.examine import Examination, examine_database
from eventvault.regular_files import open_file


class DatabaseView:
    """At most one view of `database`. Only the process that owns the database may use it."""

    def __init__(self, database: Path) -> None:
        self.folder: Path | None = None
        """The view's folder, once `open` was called."""
        self.has_holes = False
        """True if a table could not be read whole: the view has zeros in its place."""
        self._database = database
        owner = hashlib.sha256(str(database.absolute()).encode()).hexdigest()[:16]
        self._prefix = f"eventvault-view-{owner}-"
        self._parent = temporary_folder()

    def open(self) -> Any:
        """Make the view and open it with plyvel. Raises OSError, plyvel.Error or DatabaseDamaged, without a view."""
        self.remove()
        self.folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._parent))
        try:
            examination = examine_database(self._database)
            if examination.damaged:
                raise DatabaseDamaged("; ".join(examination.problems))
            self.has_holes = fill_view(self._database, self.folder, examination)
            return open_leveldb(self.folder)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the view, which must be closed, and the views that killed processes left."""
        self.folder, self.has_holes = None, False
        with suppress(OSError):
            for folder in matching(self._parent, f"{self._prefix}*"):
                shutil.rmtree(folder, ignore_errors=True)


def fill_view(database: Path, folder: Path, examination: Examination) -> bool:
    """Make `folder` a view of an examined database that nobody has open. Returns whether a table in it has holes."""
    has_holes = False
    for file in database.absolute().iterdir():
        if file.suffix in (".ldb", ".sst"):
            if are_distrusted() and copy_readable(file, folder / file.name):
                has_holes = True
            else:
                (folder / file.name).symlink_to(file)
    for name in filter(None, ("CURRENT", examination.manifest)):
        shutil.copyfile(database / name, folder / name)
    for log in examination.logs:  # without its torn end
        with open_file(database / log.name) as source, open_file(folder / log.name, "xb") as copy:
            copy.write(source.read(log.offset))
    return has_holes

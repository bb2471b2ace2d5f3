"""`python tests/crash/import_once.py ARGUMENTS`: `eventvault events import` with small batches, each of them noted."""

from __future__ import annotations

import sys

from app.cli import main
from eventvault.imports import importer

if __name__ == "__main__":
    importer.BATCH_RECORDS = 50
    importer.NOTE_SECONDS = 0.0
    sys.argv[1:1] = ["events", "import"]
    main()

"""The pages of the documentation whose examples are run as they are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pages import own_registry, run_page
from tests.service import Service

PAGES = [
    "docs/audit.md",
    "docs/first-ten-minutes.md",
    "docs/from-cron-and-tar.md",
    "docs/histogram.md",
    "docs/exports.md",
    "docs/idempotency.md",
    "docs/journal.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/past.md",
    "docs/polling.md",
    "docs/rehearsals.md",
    "docs/retention.md",
    "docs/schedules.md",
    "docs/streams.md",
    "docs/undo.md",
]
REFERENCES = ["docs/http.md", "docs/disk.md"]
"""Pages that begin with no registry of their own: what they show holds for any."""
FOLDERS = {"STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_do_what_it_says_with_the_registry_that_it_begins_with(
    service: Callable[..., Service], tmp_path: Path, page: str
) -> None:
    own = own_registry(page, tmp_path)
    assert own.keys() >= FOLDERS
    assert all(Path(own[folder]).is_relative_to(tmp_path) for folder in FOLDERS)
    run_page(page, service(workers=1, environment=own).port, **own)


def test_the_readme_and_the_references_do_what_they_say_also_with_a_registry_that_was_used_before(
    service: Callable[..., Service],
) -> None:
    port = service(workers=1).port
    for page in ["README.md", *REFERENCES, "README.md"]:
        run_page(page, port)

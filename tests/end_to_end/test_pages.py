"""The pages of the documentation whose examples are run as they are printed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pages import run_page
from tests.service import Service

PAGES = ["journal.md", "past.md", "undo.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_do_what_it_says(service: Callable[..., Service], page: str) -> None:
    run_page(page, service(environment={"AUTO_BACKUP_ENABLED": "false"}).port)

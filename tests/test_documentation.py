"""The documentation names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_place_that_the_source_map_names_is_there() -> None:
    named = re.findall(r"`([\w./]+)`", (PROJECT / "docs" / "source-map.md").read_text())
    places = [
        name for name in named if re.match(r"(eventvault|app|worker|tests|deploy|docs|scripts|benchmarks)/", name)
    ]
    assert len(places) > 40
    assert [place for place in places if not (PROJECT / place).exists()] == []


def test_the_source_map_knows_every_folder_of_the_service() -> None:
    text = (PROJECT / "docs" / "source-map.md").read_text()
    folders = {
        path.parent.relative_to(PROJECT)
        for room in ("eventvault", "app", "worker")
        for path in (PROJECT / room).rglob("__init__.py")
    }
    assert [str(folder) for folder in sorted(folders) if f"`{folder}/" not in text] == []


def test_every_decision_says_why_and_what_follows() -> None:
    decisions = sorted((PROJECT / "docs" / "adr").glob("[0-9]*.md"))
    assert len(decisions) > 5
    for number, page in enumerate(decisions, start=1):
        assert page.name.startswith(f"{number:04d}-")
        text = page.read_text()
        assert all(f"\n## {heading}\n" in text for heading in ("Why", "Decision", "What follows")), page.name

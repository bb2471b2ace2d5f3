"""docs/guarantees.md names tests that exist, and every promise names one."""

from __future__ import annotations

import re

import pytest

from eventvault.settings import PROJECT

PAGE = PROJECT / "docs" / "guarantees.md"
NOT_PROMISED = "What is not promised"


def sections() -> dict[str, str]:
    _, *parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    return dict(part.split("\n", 1) for part in parts)


def proofs(section: str) -> list[tuple[str, str]]:
    """The file and the name of each test that a section names."""
    found = []
    for file, names in re.findall(r"^- `(tests/[\w/]+\.py)`:((?:\s+`test_\w+`,?)+)", section, re.MULTILINE):
        found += [(file, name) for name in re.findall(r"`(test_\w+)`", names)]
    return found


PROOFS = [proof for section in sections().values() for proof in proofs(section)]


@pytest.mark.parametrize(("file", "name"), PROOFS, ids=[name for _, name in PROOFS])
def test_each_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_each_promise_names_its_proof() -> None:
    without = [title for title, text in sections().items() if title != NOT_PROMISED and not proofs(text)]
    assert without == []


def test_no_test_is_named_without_its_file() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(name for _, name in PROOFS)


@pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md"])
def test_each_figure_beside_a_link_to_the_benchmarks_is_there(page: str) -> None:
    benchmarks = (PROJECT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    text = (PROJECT / page).read_text(encoding="utf-8")
    figures = [
        figure
        for part in re.split(r"\n\n|\n\||\*\*Limits", text)
        if "benchmarks.md#" in part
        for figure in re.findall(r"\b[\d.]+ m?s\b", part)
    ]
    assert len(figures) == 3
    assert [figure for figure in figures if figure not in benchmarks] == []

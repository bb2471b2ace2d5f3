"""docs/comparison.md: figures are those of the benchmarks, and each statement about another program has a source."""

from __future__ import annotations

import re

import pytest

from eventvault.settings import PROJECT

PAGE = (PROJECT / "docs" / "comparison.md").read_text(encoding="utf-8")
BENCHMARKS = (PROJECT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PEERS = ("restic", "borg", "Litestream", "pgBackRest", "KurrentDB", "PocketBase")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("peer", PEERS)
def test_each_peer_has_its_strengths_named_with_sources(peer: str) -> None:
    (paragraph,) = re.findall(
        rf"^\*\*{peer}\*\*.*?(?=\n\n|\Z)", section("Where each is better"), re.MULTILINE | re.DOTALL
    )
    assert "](https://" in paragraph
    (row,) = re.findall(rf"^\| {peer} \|.*$", section("At a glance"), re.MULTILINE)
    assert "](https://" in row


def test_the_page_is_dated() -> None:
    assert re.search(r"\bon\s+20\d\d-\d\d-\d\d\.", PAGE)


def test_each_row_of_figures_is_one_of_the_benchmarks() -> None:
    rows = re.findall(r"^\| (.+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d,]+) \|$", section("Figures"), re.MULTILINE)
    assert len(rows) == 6
    assert [row for row in rows if f"| {row} |" not in BENCHMARKS] == []


def test_each_other_figure_is_one_of_the_benchmarks() -> None:
    text = " ".join(line for line in section("Figures").splitlines() if not line.startswith("|"))
    figures = re.findall(r"\b[\d.,]+ (?:MB|s)\b", text)
    assert figures
    assert [figure for figure in figures if figure not in BENCHMARKS] == []

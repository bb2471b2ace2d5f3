"""The documentation names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import shown

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_of_the_project_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:eventvault|app|worker|tests|deploy|docs|scripts|benchmarks)/[\w./-]*(?:\.\w+|/))`", page.read_text()
    )
    assert [name for name in named if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_module_of_the_core_that_a_page_names_exists(page: Path) -> None:
    for dotted in re.findall(r"`((?:eventvault|app|worker)(?:\.\w+)+)`", page.read_text()):
        path = PROJECT.joinpath(*dotted.split("."))
        assert any(place.with_suffix(".py").exists() or place.is_dir() for place in (path, path.parent)), dotted


def test_the_source_map_answers_the_questions_of_a_newcomer_by_naming_files() -> None:
    lines = (PROJECT / "docs" / "source-map.md").read_text().splitlines()
    rows = [row for row in lines if row.startswith("|") and "?" in row]
    assert len(rows) >= 60
    assert len(lines) <= 80, "the list of questions fits one view"
    assert [row for row in rows if not re.search(r"\| [^|]*`[\w./-]+\.\w+`", row)] == []


def test_the_list_of_modules_knows_every_folder_of_the_service() -> None:
    text = (PROJECT / "docs" / "modules.md").read_text()
    folders = {
        path.parent.relative_to(PROJECT)
        for room in ("eventvault", "app", "worker")
        for path in (PROJECT / room).rglob("__init__.py")
    }
    assert [str(folder) for folder in sorted(folders) if f"`{folder}/" not in text] == []


def test_every_decision_says_why_and_what_follows() -> None:
    decisions = sorted((PROJECT / "docs" / "adr").glob("[0-9]*.md"))
    assert len(decisions) > 5
    index = (PROJECT / "docs" / "adr" / "README.md").read_text()
    assert [page.name for page in decisions if f"({page.name})" not in index] == []
    for number, page in enumerate(decisions, start=1):
        assert page.name.startswith(f"{number:04d}-")
        text = page.read_text()
        assert all(f"\n## {heading}\n" in text for heading in ("Why", "Decision", "What follows")), page.name


def test_every_change_is_in_a_group_and_names_its_subject_first() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text()
    first, *releases = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert [name for name in releases if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name)] == []
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= {"Added", "Changed", "Fixed", "Security"}
    entries = re.findall(r"^- (.*)", text, re.MULTILINE)
    assert [entry for entry in entries if not re.match(r"[A-Z][\w\- ]+: \S", entry)] == []


@pytest.mark.parametrize("page", shown.PAGES)
def test_every_block_of_a_page_is_run_or_compared_by_a_test(page: str) -> None:
    """If this fails: add the page to `RUN` in `tests/shown.py`, or the block to `PROVEN` with its test."""
    unproven = [each.text.splitlines()[0] for each in shown.blocks(page) if not shown.is_proven(each)]
    assert unproven == []


def test_no_proof_is_of_a_block_that_is_gone() -> None:
    used = {proof for page in shown.PAGES for block in shown.blocks(page) for proof in shown.proofs_of(block)}
    assert [proof for proof in shown.PROVEN if proof not in used] == []


def test_each_test_that_proves_a_page_reads_it_or_says_why_not() -> None:
    proofs = [*shown.PROVEN, *(shown.Proof(page, "", test) for page, test in shown.RUN.items())]
    silent = [
        proof for proof in proofs
        if not proof.why and proof.page.rpartition("/")[2] not in (PROJECT / proof.test).read_text()
    ]  # fmt: skip
    assert silent == []
    assert [proof for proof in proofs if not (PROJECT / proof.test).exists()] == []

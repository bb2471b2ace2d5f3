"""`docs/source-map.md` is what `scripts/source_map.py` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import source_map


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one package, `eventvault`, and a page that has nothing but a head."""
    for root in source_map.ROOTS:
        (tmp_path / root).mkdir()
    (tmp_path / "eventvault" / "__init__.py").write_text('"""The core."""\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "source-map.md").write_text(f"# Map\n\n{source_map.MARKER}\n")
    return tmp_path


@pytest.mark.slow
def test_the_page_is_current() -> None:
    assert source_map.PAGE.read_text() == source_map.page(), "run `make docs`"


def test_a_module_is_listed_with_the_first_sentence_of_its_docstring(project: Path) -> None:
    (project / "eventvault" / "clock.py").write_text('"""Reads `a.b` or\nthe | clock. And more.\n\nMore."""\n')
    text = source_map.page(project)
    assert text.startswith("# Map\n")
    assert "### `eventvault/`\n\nThe core.\n" in text
    assert "| `clock.py` | Reads `a.b` or the \\| clock. |\n" in text


def test_a_module_without_a_docstring_is_refused(project: Path) -> None:
    (project / "eventvault" / "clock.py").write_text("")
    with pytest.raises(ValueError, match="has no docstring"):
        source_map.page(project)


def test_a_page_without_its_marker_is_not_overwritten(project: Path) -> None:
    (project / "docs" / "source-map.md").write_text("# Map\n")
    with pytest.raises(ValueError, match="has no line"):
        source_map.page(project)

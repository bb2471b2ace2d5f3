"""`docs/modules.md` is what `scripts/source_map.py` writes, and `docs/source-map.md` names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import source_map


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one package, `eventvault`."""
    for root in source_map.ROOTS:
        (tmp_path / root).mkdir()
    (tmp_path / "eventvault" / "__init__.py").write_text('"""The core."""\n')
    (tmp_path / "docs").mkdir()
    return tmp_path


@pytest.mark.slow
def test_the_page_is_current() -> None:
    assert source_map.PAGE.read_text() == source_map.page(), "run `make docs`"


def test_a_module_is_listed_with_the_first_sentence_of_its_docstring(project: Path) -> None:
    (project / "eventvault" / "clock.py").write_text('"""Reads `a.b` or\nthe | clock. And more.\n\nMore."""\n')
    text = source_map.page(project)
    assert text.startswith("# Every folder and module\n")
    assert "## `eventvault/`\n\nThe core.\n" in text
    assert "| `clock.py` | Reads `a.b` or the \\| clock. |\n" in text


def test_a_module_without_a_docstring_is_refused(project: Path) -> None:
    (project / "eventvault" / "clock.py").write_text("")
    with pytest.raises(ValueError, match="has no docstring"):
        source_map.page(project)


def test_each_module_of_the_map_is_named_with_what_is_in_it() -> None:
    assert len(re.findall(r"\.py`: `", source_map.MAP.read_text())) > 100
    assert source_map.mistakes_of_map() == []


@pytest.mark.parametrize(
    ("named", "mistakes"),
    [
        ("`eventvault/clock.py`: `now`, `Clock.tick`, `Clock.zone`, `DAY`", []),
        ("`eventvault/clock.py`", ["eventvault/clock.py: name a function, a class or a constant of it"]),
        ("`eventvault/clock.py`: `now`, `tick`", ["eventvault/clock.py: tick is not there"]),
        ("`eventvault/time.py`: `now`", ["eventvault/time.py is not there"]),
        ("`eventvault/clock.py`: `Clock.now`", ["eventvault/clock.py: Clock.now is not there"]),
    ],
)
def test_a_name_of_the_map_that_is_not_there_is_found(project: Path, named: str, mistakes: list[str]) -> None:
    module = "DAY = 1\n\ndef now(): ...\n\nclass Clock:\n    zone: str\n    def tick(self): ...\n"
    (project / "eventvault" / "clock.py").write_text(module)
    (project / "docs" / "source-map.md").write_text(f"| what is the time? | {named} |\n")
    assert source_map.mistakes_of_map(project) == mistakes
